from django.db import migrations, models


def forget(apps, schema_editor):
    """Statistics are computed anew: they are taken again."""
    apps.get_model("annotate", "Aggregate").objects.all().delete()


class Migration(migrations.Migration):

    dependencies = [
        ("annotate", "0019_comparisons"),
    ]

    operations = [
        migrations.AddField(
            model_name="evaluation",
            name="complete_with",
            field=models.BigIntegerField(
                blank=True,
                editable=False,
                help_text="Number of the newest version of a judgement that it was complete with.",
                null=True,
            ),
        ),
        migrations.RunPython(forget, migrations.RunPython.noop),
    ]
