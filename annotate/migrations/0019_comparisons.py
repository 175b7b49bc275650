from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("annotate", "0018_aggregates_anew"),
    ]

    operations = [
        migrations.AddField(
            model_name="evaluation",
            name="completed_at",
            field=models.DateTimeField(
                blank=True,
                editable=False,
                help_text="When its planned number was first seen to be in; its judgements are final from then on.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="evaluationrater",
            name="added_at",
            field=models.DateTimeField(
                blank=True,
                editable=False,
                help_text="When they came to it after something was judged; empty for those who were stated before.",
                null=True,
            ),
        ),
    ]
