"""The database itself refuses to alter a snapshot: its hash closes it, and its list stays."""

from django.db import migrations

FUNCTION = """
CREATE FUNCTION hone_snapshot_closed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR OLD.sha256 <> '' THEN
        RAISE EXCEPTION 'a snapshot never changes' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
"""
CLOSED = """
CREATE TRIGGER closed BEFORE UPDATE OR DELETE ON annotate_snapshot
FOR EACH ROW EXECUTE FUNCTION hone_snapshot_closed();
"""
LISTS = ["annotate_snapshotrevision", "annotate_snapshotcomparison"]


class Migration(migrations.Migration):
    dependencies = [("annotate", "0011_imports")]

    operations = [
        migrations.RunSQL(FUNCTION, "DROP FUNCTION hone_snapshot_closed();"),
        migrations.RunSQL(CLOSED, "DROP TRIGGER closed ON annotate_snapshot;"),
        *(
            migrations.RunSQL(
                f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION hone_append_only();",
                f"DROP TRIGGER append_only ON {table};",
            )
            for table in LISTS
        ),
    ]
