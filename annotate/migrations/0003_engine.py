from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("annotate", "0002_append_only")]

    operations = [
        migrations.AlterField("completion", "engine_version", models.CharField(max_length=200, blank=True)),
    ]
