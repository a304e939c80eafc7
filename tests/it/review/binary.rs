//! `lookout review` as a user starts it: the shipped binary, real photographs, the stand-in.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use lookout::drill::fake_gemini::{Behaviour, FakeGemini, FakeGeminiSettings, Outcome};
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

const PHOTOS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/photos");

pub(super) async fn stand_in(behaviour: Behaviour) -> FakeGemini {
    FakeGemini::start(FakeGeminiSettings { port: 0, behaviour }).await.unwrap()
}

/// A folder with a configuration whose limits are short.
pub(super) fn folder(stand_in: &FakeGemini) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("images")).unwrap();
    let config = format!(
        "[records]\nkind = \"sqlite\"\n[images]\nkind = \"folder\"\npath = \"images\"\n\
         [reviewer]\nkind = \"gemini\"\nbase_url = \"{}\"\nconnect_timeout = \"2s\"\n\
         attempt_timeout = \"2s\"\ngive_up_after = \"10s\"\n",
        stand_in.base_url
    );
    std::fs::write(folder.path().join("lookout.toml"), config).unwrap();
    folder
}

pub(super) fn add_photos(folder: &Path) -> u64 {
    let mut n_photos = 0;
    for entry in std::fs::read_dir(PHOTOS).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "jpg") {
            std::fs::copy(&path, folder.join("images").join(path.file_name().unwrap())).unwrap();
            n_photos += 1;
        }
    }
    n_photos
}

fn start(folder: &Path, args: &[&str]) -> Child {
    let args: Vec<&str> = ["review"].iter().chain(args).copied().collect();
    lookout(folder, &args)
}

pub(super) fn lookout(folder: &Path, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_lookout"))
        .args(args)
        .current_dir(folder)
        .env_remove("LOOKOUT_CONFIG")
        .env("GEMINI_API_KEY", "fake-key-of-a-test")
        .env("LOOKOUT_RUN_ID", "run-of-a-test")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn review(folder: &Path, args: &[&str]) -> Output {
    let ended = start(folder, args).wait_with_output();
    tokio::time::timeout(Duration::from_secs(120), ended).await.unwrap().unwrap()
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(super) fn statuses(folder: &Path) -> BTreeMap<String, u64> {
    let connection = Connection::open(folder.join("state/records.db")).unwrap();
    let mut select =
        connection.prepare("SELECT review_status, count(*) FROM midbot_images GROUP BY 1").unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64))).unwrap();
    rows.map(Result::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_photographs_is_reviewed_and_the_signal_is_the_last_line() {
    let stand_in = stand_in(Behaviour::default()).await;
    let folder = folder(&stand_in);
    let folder = folder.path();
    let n_photos = add_photos(folder);
    let out = review(folder, &[]).await;
    let stdout = text(&out.stdout);
    assert!(out.status.success(), "{stdout}{}", text(&out.stderr));
    let last: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["message"], "Bulk processing completed.");
    assert_eq!(last["run"], "run-of-a-test");
    assert_eq!(last["summary"]["succeeded"], n_photos);
    assert!(!stdout.contains('\r') && !stdout.contains('\u{1b}'), "{stdout:?}");
    assert!(stdout.contains(&format!("::lookout::progress done={n_photos} total={n_photos}")));
    assert!(stdout.contains("::lookout::totals"), "{stdout}");
    assert!(stdout.contains(&format!("Successful: {n_photos} (100.0%)")), "{stdout}");
    assert_eq!(statuses(folder), [("auto_review_success".to_owned(), n_photos)].into());
    // Nothing is left: the next one completes at once, and calls nobody.
    let calls = stand_in.stats().calls;
    let out = review(folder, &["--json"]).await;
    let last: Value = serde_json::from_str(text(&out.stdout).lines().last().unwrap()).unwrap();
    assert_eq!(
        (last["summary"]["claimed"].as_u64(), last["results"].as_array().unwrap().len()),
        (Some(0), 0)
    );
    assert_eq!(stand_in.stats().calls, calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_never_answers_costs_thirty_seconds_and_no_try() {
    let stand_in = stand_in(Behaviour::always(Outcome::NeverAnswers)).await;
    let folder = folder(&stand_in);
    let folder = folder.path();
    let photo = std::fs::read(format!("{PHOTOS}/coins.jpg")).unwrap();
    for n in 0..100 {
        std::fs::write(folder.join(format!("images/{n:03}.jpg")), &photo).unwrap();
    }
    let start = tokio::time::Instant::now();
    let out = review(folder, &[]).await;
    assert_eq!(out.status.code(), Some(75), "{}{}", text(&out.stdout), text(&out.stderr));
    assert!(start.elapsed() <= Duration::from_secs(30), "{:?}", start.elapsed());
    let stdout = text(&out.stdout);
    assert!(stdout.contains("::lookout::problem kind=provider_unavailable"), "{stdout}");
    assert!(
        !stdout.contains("Bulk processing completed.") && !stdout.contains("status=503"),
        "{stdout}"
    );
    assert_eq!(statuses(folder), [("downloaded".to_owned(), 100)].into());
    let connection = Connection::open(folder.join("state/review.db")).unwrap();
    let n_used: i64 = connection
        .query_row(
            "SELECT count(*) FROM tries WHERE outcome IN ('failed', 'own_fault')",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(n_used, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_finishes_what_is_in_hand_and_ends_with_the_signal() {
    let stand_in = stand_in(Behaviour::slow(Duration::from_millis(1500))).await;
    let folder = folder(&stand_in);
    let folder = folder.path();
    let photo = std::fs::read(format!("{PHOTOS}/coins.jpg")).unwrap();
    for n in 0..200 {
        std::fs::write(folder.join(format!("images/{n:03}.jpg")), &photo).unwrap();
    }
    let child = start(folder, &[]);
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    // Once the first picture is with the service, it is in the middle.
    while stand_in.stats().calls == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let out = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    let stdout = text(&out.stdout);
    assert!(out.status.success(), "{stdout}{}", text(&out.stderr));
    assert!(stdout.trim_end().lines().last().unwrap().contains("Bulk processing completed."));
    let statuses = statuses(folder);
    assert_eq!(statuses.get("processing"), None);
    assert!(statuses["auto_review_success"] >= 1 && statuses["downloaded"] >= 100, "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_picture_and_a_dry_run_write_no_row() {
    let stand_in = stand_in(Behaviour::default()).await;
    let folder = folder(&stand_in);
    let folder = folder.path();
    let n_photos = add_photos(folder);
    let image = format!("{PHOTOS}/cat.jpg");
    let out = review(folder, &["--image", &image, "--json"]).await;
    let answer: Value = serde_json::from_str(&text(&out.stdout)).unwrap();
    assert_eq!(answer["message"], "Auto review success");
    assert!(answer["details"].as_str().unwrap().len() > 10, "{answer}");
    let out = review(folder, &["--image", "/etc/hostname", "--json"]).await;
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stdout).contains("\"detail\""), "{}", text(&out.stdout));
    let calls = stand_in.stats().calls;
    let out = review(folder, &["--dry-run", "--json"]).await;
    let counts: Value = serde_json::from_str(&text(&out.stdout)).unwrap();
    assert_eq!(counts["images"], n_photos);
    assert!(counts["usd"].as_f64().unwrap() > 0.0);
    assert_eq!(stand_in.stats().calls, calls);
    assert_eq!(statuses(folder), BTreeMap::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_picture_is_written_down_and_pays_from_the_days_budget() {
    let stand_in = stand_in(Behaviour::default()).await;
    let folder = folder(&stand_in);
    let folder = folder.path();
    add_photos(folder);
    let out = review(folder, &["--job-id", "cat", "--image-index", "0", "--json"]).await;
    assert!(out.status.success(), "{}", text(&out.stdout));
    let told = lookout(folder, &["history", "--images", "cat__0"]).wait_with_output().await;
    let told = text(&told.unwrap().stdout);
    assert!(told.contains("answered") && told.contains("gemini-3.5-flash-lite"), "{told}");

    // What that one has cost is spent for today.
    let path = folder.join("lookout.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{config}[budget]\nusd_per_day = 0.00001\n")).unwrap();
    let calls = stand_in.stats().calls;
    for arguments in
        [["--image", "images/cat.jpg", "--json"], ["--image-index=0", "--job-id=cat", "--json"]]
    {
        let out = review(folder, &arguments).await;
        let answer: Value = serde_json::from_str(&text(&out.stdout)).unwrap();
        assert_eq!(out.status.code(), Some(75), "{answer}");
        let detail = answer["detail"].as_str().unwrap();
        assert!(detail.contains("for today (UTC) is used up"), "{detail}");
    }
    assert_eq!(stand_in.stats().calls, calls, "nobody was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_it_says_what_to_set() {
    let stand_in = stand_in(Behaviour::default()).await;
    let folder = folder(&stand_in);
    let out = Command::new(env!("CARGO_BIN_EXE_lookout"))
        .arg("review")
        .current_dir(folder.path())
        .env_remove("LOOKOUT_CONFIG")
        .env_remove("GEMINI_API_KEY")
        .output()
        .await
        .unwrap();
    assert_eq!(out.status.code(), Some(78), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("GEMINI_API_KEY"), "{}", text(&out.stderr));
}
