from django.db import migrations


def forget(apps, schema_editor):
    """Statistics are stored in a new form: they are taken again."""
    apps.get_model("annotate", "Aggregate").objects.all().delete()


class Migration(migrations.Migration):

    dependencies = [
        ("annotate", "0017_gate"),
    ]

    operations = [
        migrations.RunPython(forget, migrations.RunPython.noop),
    ]
