"""The database itself refuses to alter what must stay as it was written."""

from django.db import migrations

TABLES = ["annotate_auditevent", "annotate_submission", "annotate_judgementrevision"]

FUNCTION = """
CREATE FUNCTION hone_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("annotate", "0001_records")]

    operations = [
        migrations.RunSQL(FUNCTION, "DROP FUNCTION hone_append_only();"),
        *(
            migrations.RunSQL(
                f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION hone_append_only();",
                f"DROP TRIGGER append_only ON {table};",
            )
            for table in TABLES
        ),
    ]
