"""The user's old .env plus two lines, no TOML: `lookout doctor`, one `lookout review`, a `lookout
rerun`, over the real servers; the official Supabase client reads what was written. And a table
whose trigger writes its own times: the rows of a review that was killed come back.

usage: servers.py --records --images -- PYTHON whole_review.py BIN
"""

import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import boto3
from supabase import create_client

BIN = os.path.abspath(sys.argv[1])
PHOTOS = pathlib.Path(__file__).resolve().parent.parent / "photos"
GIVEN = {name.removeprefix("LOOKOUT_TEST_"): value
         for name, value in os.environ.items() if name.startswith("LOOKOUT_TEST_")}
CODES = re.compile(r"good|((T1|T2|W1|H1|N1|B1|BR|CP|PL|PP)(, (?!$))?)+")


def check(what, holds, shown=""):
    print(("ok   " if holds else "FAIL ") + what, "" if holds else shown, flush=True)
    if not holds:
        sys.exit(1)


def fill(rows, bucket):
    """Photographs in the bucket, rows in the table."""
    s3 = boto3.client("s3", endpoint_url=GIVEN["SEAWEED"], region_name="us-east-1",
                      aws_access_key_id=GIVEN["S3_ACCESS_KEY"],
                      aws_secret_access_key=GIVEN["S3_SECRET_KEY"])
    s3.create_bucket(Bucket=bucket)
    names = sorted(path.stem for path in PHOTOS.glob("*.jpg"))
    for name in names:
        s3.put_object(Bucket=bucket, Key=f"{name}__0.jpg",
                      Body=(PHOTOS / f"{name}.jpg").read_bytes())
    rows.insert([{"job_id": name, "image_index": 0} for name in names]).execute()
    return names


@contextlib.contextmanager
def stand_in(folder, script=""):
    """Gemini; its address."""
    (folder / "script.toml").write_text(script)
    argv = [BIN, "stand-in", "gemini", "--port", "0", "--script", folder / "script.toml"]
    with subprocess.Popen(argv, text=True, stdout=subprocess.PIPE) as process:
        try:
            yield process.stdout.readline().removeprefix("listening on ").strip()
        finally:
            process.terminate()


def environment(folder, gemini, **more):
    # Nothing of ours may come from this process's environment but what a person would set.
    return {"PATH": os.environ["PATH"], "HOME": str(folder),
            "LOOKOUT__REVIEWER__BASE_URL": gemini, **more}


def lookout(folder, gemini, *args, **more):
    env = environment(folder, gemini, **more)
    done = subprocess.run([BIN, *args], cwd=folder, env=env, text=True,
                          capture_output=True, timeout=300, check=False)
    sys.stdout.write(done.stdout[-3000:])
    sys.stderr.write(done.stderr[-4000:])
    secrets = [GIVEN["KEY_SECRET"], "fake-key"]
    check("no secret is shown", not any(one in done.stdout + done.stderr for one in secrets))
    return done


def doctor(folder, gemini, n_rows):
    done = lookout(folder, gemini, "doctor", "--json")
    check("doctor: exit 0", done.returncode == 0, done.returncode)
    found = json.loads(done.stdout)["findings"]
    said = {state: " | ".join(one["what"] for one in found if one["state"] == state)
            for state in ("good", "warning", "not_checked", "failed", "unavailable")}
    for state, words in [
            ("good", f"table and columns are there; {n_rows} images wait (downloaded)"),
            ("good", "the image of row"), ("good", f"the {n_rows} images that wait: about 0.0"),
            ("warning", "2 images are in processing for more than a day"),
            ("warning", "1 image is good by accident"),
            ("not_checked", "whether rows may be changed")]:
        check(f"doctor: {words}", words in said[state], said)
    check("doctor: nothing is wrong", said["failed"] + said["unavailable"] == "", said)
    check("doctor: writes nothing", not (folder / "state").exists())


def rerun(folder, gemini, table):
    """Rows that the old service has left behind, or called good because it understood nothing."""
    before = rows_of(table, "auto_review_success")
    shown = lookout(folder, gemini, "rerun", "--unreadable")
    check("rerun: shows first", "1 image would be reviewed again" in shown.stdout)
    check("rerun: changes nothing yet", rows_of(table, "auto_review_success") == before)
    done = lookout(folder, gemini, "rerun", "--unreadable", "--yes")
    check("rerun: exit 0", done.returncode == 0, done.returncode)
    done = lookout(folder, gemini, "rerun", "--stuck", "--yes", "--now")
    check("rerun: stuck rows, exit 0", done.returncode == 0, done.returncode)
    done = lookout(folder, gemini, "rerun", "--status", "auto_review_success", "--limit", "2", "--mark", "--yes")
    check("rerun: two are marked", "2 images changed" in done.stdout)
    rows = rows_of(table, "rerun_for_clarity")
    check("rerun: in the table", [row["auto_review_status"] for row in rows] == ["good"] * 2, rows)
    done = lookout(folder, gemini, "rerun", "--status", "rerun_for_clarity", "--yes")
    check("rerun: reviewed at once", done.returncode == 0 and not rows_of(table, "rerun_for_clarity"))
    done = lookout(folder, gemini, "history", "--images", rows[0]["id"])
    check("history: of one image", "Image " + rows[0]["id"] in done.stdout and "USD" in done.stdout)


def rows_of(table, status):
    return table().select("*").eq("review_status", status).execute().data


def killed(folder, client):
    """A trigger sets `updated_at` itself, as in many projects: the fence is the table's time."""
    table = lambda: client.table("stamped_review")
    names = sorted(path.stem for path in PHOTOS.glob("*.jpg"))
    table().insert([{"job_id": name, "image_index": 0} for name in names]).execute()
    more = {"LOOKOUT__RECORDS__TABLE": "stamped_review"}
    with stand_in(folder, '[[rule]]\noutcome = "never_answers"\n') as gemini:
        review = subprocess.Popen([BIN, "review"], cwd=folder, env=environment(folder, gemini, **more),
                                  stdout=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while not rows_of(table, "processing") and time.monotonic() < end:
            time.sleep(0.1)
        # What the claim's answer brought is noted right after it; then the pictures are fetched.
        time.sleep(1)
        review.kill()
        review.wait()
    check("killed: rows are left behind", rows_of(table, "processing"))
    with stand_in(folder) as gemini:
        done = lookout(folder, gemini, "review", "--for", "2m", **more)
    check("killed: the next review ends well", done.returncode == 0, done.returncode)
    check("killed: no row is left in processing", not rows_of(table, "processing"))
    check("killed: every row is reviewed", len(rows_of(table, "auto_review_success")) == len(names))


def main():
    base = GIVEN["SUPABASE"]
    client = create_client(base, GIVEN["KEY_SERVICE"])
    table = lambda: client.table("midbot_images")
    names = fill(table(), "public")
    old = {"job_id": names[0], "image_index": 0, "updated_at": "2026-01-01T00:00:00+00:00"}
    table().insert([
        {**old, "review_status": "processing"}, {**old, "review_status": "processing"},
        {**old, "review_status": "auto_review_success", "auto_review_status": "good",
         "auto_review_details": "Error parsing response: Expecting value: line 1 column 1 (char 0)"},
    ]).execute()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / ".env").write_text("".join(f"{line}\n" for line in [
            "GEMINI_API_KEY=fake-key",
            f"SUPABASE_URL={base}",
            f"SUPABASE_KEY={GIVEN['KEY_SECRET']}",
            "LIMIT=4",
            f"IMAGE_URL={GIVEN['SEAWEED']}/public/{{job_id}}__{{image_index}}.jpg",
            f"ALERT_WEBHOOK_URL={base}/_gateway",
        ]))
        with stand_in(folder) as gemini:
            doctor(folder, gemini, len(names))
            done = lookout(folder, gemini, "review", "--for", "2m")
            check("exit 0", done.returncode == 0, done.returncode)
            last = json.loads(done.stdout.strip().splitlines()[-1])
            check("the signal", last["message"] == "Bulk processing completed.", last)
            check("the cost is said first", "first review here; the" in done.stdout)
            rerun(folder, gemini, table)
        rows = table().select("*").execute().data
        check("every row is there", sorted({row["job_id"] for row in rows}) == names)
        for row in rows:
            name = row["job_id"]
            check(f"{name}: reviewed", row["review_status"] == "auto_review_success", row)
            check(f"{name}: a category", CODES.fullmatch(row["auto_review_status"]), row)
            check(f"{name}: a sentence", "no model has looked" in row["auto_review_details"], row)
            check(f"{name}: when", row["updated_at"] is not None, row)
        killed(folder, client)


if __name__ == "__main__":
    main()
