//! `lookout rerun` and `review --id` as a user starts them: it shows first, and reviews with `--yes`.

use std::path::Path;
use std::time::Duration;

use lookout::drill::fake_gemini::{Behaviour, Outcome};
use rusqlite::Connection;
use serde_json::Value;

use super::binary::{add_photos, folder, lookout, stand_in, statuses, text};

/// Exit code, standard output, standard error.
async fn say(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let ended = lookout(folder, args).wait_with_output();
    let output = tokio::time::timeout(Duration::from_secs(120), ended).await.unwrap().unwrap();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn change(folder: &Path, sql: &str) -> usize {
    let connection = Connection::open(folder.join("state/records.db")).unwrap();
    connection.execute(sql, []).unwrap()
}

/// Status and category of each image.
fn rows(folder: &Path) -> Vec<(String, String)> {
    let connection = Connection::open(folder.join("state/records.db")).unwrap();
    let sql = "SELECT review_status, auto_review_status FROM midbot_images ORDER BY id";
    let mut select = connection.prepare(sql).unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

fn an_id(folder: &Path, status: &str) -> String {
    let connection = Connection::open(folder.join("state/records.db")).unwrap();
    let sql = "SELECT id FROM midbot_images WHERE review_status = ?1 ORDER BY id";
    connection.query_row(sql, [status], |row| row.get(0)).unwrap()
}

/// A folder whose photographs have all been reviewed.
async fn reviewed(
    behaviour: Behaviour,
) -> (tempfile::TempDir, lookout::drill::fake_gemini::FakeGemini, u64) {
    let stand_in = stand_in(behaviour).await;
    let folder = folder(&stand_in);
    let n_photos = add_photos(folder.path());
    let (code, _, err) = say(folder.path(), &["review"]).await;
    assert_eq!(code, 0, "{err}");
    (folder, stand_in, n_photos)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_first_and_changes_nothing_without_yes() {
    let (folder, stand_in, n_photos) = reviewed(Behaviour::default()).await;
    let folder = folder.path();
    let (before, calls) = (rows(folder), stand_in.stats().calls);
    for arguments in [&["--status", "auto_review_success"][..], &["--from", "1h", "--now"]] {
        let (code, out, _) = say(folder, &[&["rerun"], arguments].concat()).await;
        assert_eq!(code, 0);
        let first = format!("{n_photos} images would be reviewed again: about ");
        assert!(out.starts_with(&first), "{out}");
        assert!(out.contains("Run the same command with --yes to do it."), "{out}");
    }
    let (_, out, _) = say(folder, &["rerun", "--from", "1h", "--json"]).await;
    let object: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&object["done"], &object["found"]), (&false.into(), &n_photos.into()));
    assert!(object["usd"].as_f64().is_some_and(|usd| usd > 0.0), "{object:#}");
    assert_eq!((rows(folder), stand_in.stats().calls), (before, calls));

    let (code, _, err) = say(folder, &["rerun", "--yes"]).await;
    assert_eq!(code, 2, "nobody means every image by saying nothing: {err}");
    let (code, out, _) = say(folder, &["rerun", "--category", "pl", "--to", "2020-01-01"]).await;
    assert_eq!((code, out.as_str()), (0, "No such image. Nothing was changed.\n"));
}

/// Whatever the selection, a flagged image must never look like a good one on the way.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_reviewed_again_keeps_its_category_until_the_new_answer() {
    let (folder, stand_in, n_photos) = reviewed(Behaviour::default()).await;
    let folder = folder.path();
    change(folder, "UPDATE midbot_images SET auto_review_status = 'N1'");
    stand_in.set_behaviour(Behaviour::always(Outcome::NeverAnswers)).await;
    let mut running = lookout(folder, &["rerun", "--category", "N1", "--yes"]);
    let claimed = async {
        while statuses(folder).get("processing") != Some(&n_photos) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), claimed).await.unwrap();
    assert!(rows(folder).iter().all(|(_, category)| category == "N1"), "{:?}", rows(folder));
    // The service stays away: the images return as they were.
    let status = tokio::time::timeout(Duration::from_secs(60), running.wait()).await.unwrap();
    assert_eq!(status.unwrap().code(), Some(75));
    let as_before = ("auto_review_success".to_owned(), "N1".to_owned());
    assert!(rows(folder).iter().all(|row| *row == as_before), "{:?}", rows(folder));

    stand_in.set_behaviour(Behaviour::default()).await;
    let calls = stand_in.stats().calls;
    let (code, out, err) = say(folder, &["rerun", "--category", "N1", "--yes"]).await;
    assert_eq!(code, 0, "{out}{err}");
    let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(last["message"], "Bulk processing completed.");
    assert_eq!(last["summary"]["claimed"], n_photos);
    assert_eq!(stand_in.stats().calls, calls + n_photos, "each was asked for anew");
    assert!(rows(folder).iter().all(|(status, _)| status == "auto_review_success"));
}

#[tokio::test(flavor = "multi_thread")]
async fn marked_images_count_as_good_and_are_counted_until_they_are_reviewed() {
    let (folder, _stand_in, n_photos) = reviewed(Behaviour::default()).await;
    let folder = folder.path();
    let (_, out, _) = say(folder, &["rerun", "--from", "1h", "--limit", "2", "--mark"]).await;
    assert!(out.starts_with("2 images would be marked rerun_for_clarity, with category good."));
    assert!(out.contains("until then they count as good"), "{out}");
    assert_eq!(statuses(folder)["auto_review_success"], n_photos, "nothing without --yes");
    let arguments = ["rerun", "--from", "1h", "--limit", "2", "--mark", "--yes"];
    let (code, out, _) = say(folder, &arguments).await;
    assert_eq!(code, 0);
    assert!(out.starts_with("2 images changed: now rerun_for_clarity."), "{out}");
    assert!(out.contains("lookout rerun --status rerun_for_clarity --yes"), "{out}");
    let marked = ("rerun_for_clarity".to_owned(), "good".to_owned());
    assert_eq!(rows(folder).iter().filter(|row| **row == marked).count(), 2);

    // A run that finds nothing else to do counts them, too.
    let (_, out, _) = say(folder, &["review"]).await;
    assert!(out.contains("Marked for a rerun, and good until then: 2"), "{out}");
    assert!(out.contains("parked=2"), "{out}");
    let (_, out, _) = say(folder, &["doctor"]).await;
    assert!(out.contains("2 images are parked as rerun_for_clarity"), "{out}");
    let (_, out, _) =
        say(folder, &["rerun", "--status", "rerun_for_clarity", "--mark", "--yes"]).await;
    assert!(out.starts_with("Nothing to change: 2 images, marked already."), "{out}");
    let (code, _, err) = say(folder, &["rerun", "--status", "rerun_for_clarity", "--yes"]).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(statuses(folder), [("auto_review_success".to_owned(), n_photos)].into());
    let (_, out, _) = say(folder, &["doctor"]).await;
    assert!(!out.contains("parked"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_its_own_words_for_the_statuses_is_reviewed_and_shown_with_them() {
    let stand_in = stand_in(Behaviour::default()).await;
    let folder = super::binary::folder(&stand_in);
    let folder = folder.path();
    let n_photos = add_photos(folder);
    let path = folder.join("lookout.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let words = "[records.statuses]\nprocessing = \"taken\"\nsuccess = \"done\"\n\
                 error = \"broken\"\nrerun = \"again\"\n";
    std::fs::write(&path, format!("{text}{words}")).unwrap();
    let (code, out, err) = say(folder, &["review"]).await;
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(statuses(folder), [("done".to_owned(), n_photos)].into());
    for word in ["done", "auto_review_success"] {
        let (code, out, _) = say(folder, &["rerun", "--status", word]).await;
        assert_eq!(code, 0, "{out}");
        assert!(out.starts_with(&format!("{n_photos} images would be reviewed again")), "{out}");
        assert!(out.contains("  done  "), "{out}");
    }
    let (code, _, err) = say(folder, &["rerun", "--status", "downloaded"]).await;
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("write one of done, broken, again"), "{err}");
    let arguments = ["rerun", "--status", "done", "--limit", "2", "--mark", "--yes"];
    let (_, out, _) = say(folder, &arguments).await;
    assert!(out.contains("lookout rerun --status again --yes"), "{out}");
    assert_eq!((statuses(folder)["again"], statuses(folder)["done"]), (2, n_photos - 2));
    change(
        folder,
        "UPDATE midbot_images SET review_status = 'taken', updated_at = '2020-01-01T00:00:00.000000Z' WHERE review_status = 'again'",
    );
    let (_, out, _) = say(folder, &["doctor"]).await;
    assert!(out.contains("2 images are in taken for more than a day"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_selected_images_and_no_others_are_reviewed_with_and_without_now() {
    let (folder, stand_in, n_photos) = reviewed(Behaviour::default()).await;
    let folder = folder.path();
    change(
        folder,
        "UPDATE midbot_images SET auto_review_status = 'good',
             auto_review_details = 'Error parsing response: x' WHERE job_id IN ('cat', 'text')",
    );
    // Somebody else's rows of the same status stay as they are.
    change(
        folder,
        "UPDATE midbot_images SET review_status = 'rerun_for_clarity' WHERE job_id IN ('coins', 'coffee')",
    );
    let before = stand_in.stats().calls;
    let one = ["rerun", "--unreadable", "--limit", "1", "--yes"];
    for arguments in [&one[..], &["rerun", "--unreadable", "--now", "--yes"]] {
        let (code, out, err) = say(folder, arguments).await;
        assert_eq!(code, 0, "{out}{err}");
        let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
        assert_eq!(last["summary"]["claimed"], 1);
    }
    assert_eq!(stand_in.stats().calls, before + 2);
    assert_eq!(statuses(folder)["auto_review_success"], n_photos - 2);
    assert_eq!(statuses(folder)["rerun_for_clarity"], 2);
    let (_, out, _) = say(folder, &["rerun", "--unreadable"]).await;
    assert!(out.starts_with("No such image."), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_image_is_named_and_what_can_not_be_done_is_said() {
    let (folder, stand_in, _) = reviewed(Behaviour::default()).await;
    let folder = folder.path();
    let id = an_id(folder, "auto_review_success");
    let arguments = ["rerun", "--id", &id, "--id", "nobody", "--mark", "--yes"];
    let (code, out, err) = say(folder, &arguments).await;
    assert_eq!(code, 1, "one of the two could not be done");
    assert!(err.contains("nobody: no such image"), "{err}");
    assert!(out.starts_with("1 image changed: now rerun_for_clarity."), "{out}");
    let (code, _, err) = say(folder, &["rerun", "--id", &id, "--mark"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("already rerun_for_clarity"), "{err}");

    let before = stand_in.stats().calls;
    let (code, out, err) = say(folder, &["review", "--id", &id]).await;
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!((an_id(folder, "auto_review_success"), stand_in.stats().calls), (id, before + 1));
    assert!(!statuses(folder).contains_key("rerun_for_clarity"));
    let (code, _, err) = say(folder, &["review", "--id", "nobody"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("there is no image with this id"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stuck_rows_wait_again_but_not_those_of_a_review_on_this_machine() {
    let (folder, _stand_in, _) = reviewed(Behaviour::default()).await;
    let folder = folder.path();
    let of_the_old_service = an_id(folder, "auto_review_success");
    let long_ago = "review_status = 'processing', updated_at = '2026-01-01T00:00:00.000000Z'";
    change(folder, &format!("UPDATE midbot_images SET {long_ago} WHERE job_id IN ('cat', 'text')"));
    change(
        folder,
        &format!("UPDATE midbot_images SET {long_ago} WHERE id = '{of_the_old_service}'"),
    );
    let n_stuck = statuses(folder)["processing"];
    let ours: String = Connection::open(folder.join("state/records.db"))
        .unwrap()
        .query_row("SELECT id FROM midbot_images WHERE job_id = 'cat'", [], |row| row.get(0))
        .unwrap();
    let notes = Connection::open(folder.join("state/review.db")).unwrap();
    let noted = notes.execute(
        "INSERT INTO claims (scope, record_id, from_status, claimed_at, holder)
         SELECT scope, ?1, 'downloaded', '2026-01-01T00:00:00.000000Z', 99 FROM tries LIMIT 1",
        [&ours],
    );
    assert_eq!(noted.unwrap(), 1);
    let (code, out, _) = say(folder, &["rerun", "--stuck"]).await;
    assert_eq!(code, 0);
    assert!(out.contains("would return to the queue (downloaded)"), "{out}");
    assert!(out.contains("1 image more: a review on this machine"), "{out}");
    let (code, out, _) = say(folder, &["rerun", "--stuck", "--yes"]).await;
    assert_eq!(code, 0);
    assert!(out.contains("The next run reviews images that are downloaded"), "{out}");
    let now = statuses(folder);
    assert_eq!((now["downloaded"], now["processing"]), (n_stuck - 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_review_says_what_it_will_cost_and_an_image_has_a_story() {
    let stand_in = stand_in(Behaviour::default()).await;
    let folder = folder(&stand_in);
    let folder = folder.path();
    let n_photos = add_photos(folder);
    let (_, out, _) = say(folder, &["review", "--limit", "1"]).await;
    let note = format!("first review here; the {n_photos} images that wait: about ");
    assert!(out.contains(&note), "{out}");
    let (_, out, _) = say(folder, &["review"]).await;
    assert!(!out.contains("first review here"), "{out}");

    let id = an_id(folder, "auto_review_success");
    let (code, out, err) = say(folder, &["history", "--images", &id]).await;
    assert_eq!(code, 0, "{err}");
    for part in [&format!("Image {id}: 1 try."), "answered", "SHA-256 ", "hash ", " USD ("] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let (_, out, _) = say(folder, &["history", "--images", &id, "--json"]).await;
    let story: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((story.as_array().unwrap().len(), &story[0]["outcome"]), (1, &"answered".into()));
    let (code, out, _) = say(folder, &["history", "--images", "nobody"]).await;
    assert_eq!(code, 1);
    assert!(out.starts_with("No review here has had the image nobody in hand."), "{out}");
}
