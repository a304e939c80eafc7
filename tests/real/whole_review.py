"""The user's old .env plus IMAGE_URL, no TOML: one `lookout review` over the real servers, and the
official Supabase client reads the contract's values.

usage: servers.py --records --images -- PYTHON whole_review.py BIN
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

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


def review(folder, stand_in):
    # Nothing of ours may come from this process's environment but what a person would set.
    env = {"PATH": os.environ["PATH"], "HOME": str(folder),
           "LOOKOUT__REVIEWER__BASE_URL": stand_in}
    done = subprocess.run([BIN, "review", "--for", "2m"], cwd=folder, env=env, text=True,
                          capture_output=True, timeout=300, check=False)
    sys.stdout.write(done.stdout[-2000:])
    sys.stderr.write(done.stderr[-4000:])
    return done


def main():
    base = GIVEN["SUPABASE"]
    client = create_client(base, GIVEN["KEY_SERVICE"])
    names = fill(client.table("midbot_images"), "public")
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / ".env").write_text("".join(f"{line}\n" for line in [
            "GEMINI_API_KEY=fake-key",
            f"SUPABASE_URL={base}",
            f"SUPABASE_KEY={GIVEN['KEY_SECRET']}",
            "LIMIT=4",
            f"IMAGE_URL={GIVEN['SEAWEED']}/public/{{job_id}}__{{image_index}}.jpg",
        ]))
        with subprocess.Popen([BIN, "stand-in", "gemini", "--port", "0"], text=True,
                              stdout=subprocess.PIPE) as stand_in:
            try:
                address = stand_in.stdout.readline().removeprefix("listening on ").strip()
                done = review(folder, address)
            finally:
                stand_in.terminate()
    check("exit 0", done.returncode == 0, done.returncode)
    last = json.loads(done.stdout.strip().splitlines()[-1])
    check("the signal", last["message"] == "Bulk processing completed.", last)
    rows = client.table("midbot_images").select("*").execute().data
    check("every row is there", sorted(row["job_id"] for row in rows) == names)
    for row in rows:
        check(f"{row['job_id']}: reviewed", row["review_status"] == "auto_review_success", row)
        check(f"{row['job_id']}: a category", CODES.fullmatch(row["auto_review_status"]), row)
        check(f"{row['job_id']}: a sentence", "no model has looked" in row["auto_review_details"])
        check(f"{row['job_id']}: when", row["updated_at"] is not None, row)


if __name__ == "__main__":
    main()
