import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('annotate', '0015_archive'),
    ]

    operations = [
        migrations.CreateModel(
            name='RewardModelReport',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('figures', models.JSONField(help_text='As annotate.services.reward_reports makes them.')),
                ('seconds', models.FloatField(help_text='How long measuring took.')),
                ('at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('reward_model', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='report', to='annotate.rewardmodel')),
            ],
        ),
        migrations.AlterField(
            model_name='run',
            name='kind',
            field=models.CharField(choices=[('generate', 'Generate completions'), ('train_reward', 'Train reward model'), ('improve', 'Improve policy'), ('evaluate', 'Evaluate generations'), ('score', 'Score answers')], max_length=20),
        ),
    ]
