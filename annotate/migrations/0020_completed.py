from django.db import migrations, models


def forget(apps, schema_editor):
    """Statistics are computed anew: they are taken again."""
    apps.get_model("annotate", "Aggregate").objects.all().delete()


class Migration(migrations.Migration):

    dependencies = [
        ("annotate", "0019_comparisons"),
    ]

    operations = [
        migrations.AlterField(
            model_name="evaluation",
            name="completed_at",
            field=models.DateTimeField(
                blank=True,
                editable=False,
                help_text="When the newest judgement was given with which its planned number was in: from then on all "
                "are final.",
                null=True,
            ),
        ),
        migrations.RunPython(forget, migrations.RunPython.noop),
    ]
