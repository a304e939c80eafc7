//! `lookout doctor`: each part is asked for real, nothing is changed, nothing secret is shown.
//!
//! The command as a process of its own, against servers on loopback that are started here.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use lookout::drill::fake_gemini::{Behaviour, FakeGemini, FakeGeminiSettings, Outcome, Raw};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::config::folder;

const KEY: &str = "not-a-real-gemini-key";

/// What doctor said, and how it ended.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) text: String,
}

impl Said {
    pub(crate) fn findings(&self) -> Vec<Value> {
        let object: Value = serde_json::from_str(&self.text).unwrap();
        object["findings"].as_array().unwrap().clone()
    }

    /// State and words of the first finding about this part.
    pub(crate) fn about(&self, part: &str) -> (String, String) {
        let findings = self.findings();
        let found = findings.iter().find(|finding| finding["part"] == part).unwrap();
        let text = |key: &str| found[key].as_str().unwrap().to_owned();
        (text("state"), text("what"))
    }
}

pub(crate) async fn doctor(root: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_lookout"))
        .arg("doctor")
        .args(arguments)
        .current_dir(root)
        .env_clear()
        .env("GEMINI_API_KEY", KEY)
        .envs(variables.iter().copied())
        .output()
        .await
        .unwrap();
    let text =
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert!(!text.contains(KEY), "the key is shown:\n{text}");
    Said { code: output.status.code().unwrap(), text }
}

/// A folder with one photograph.
fn with_a_photograph() -> tempfile::TempDir {
    let folder = folder(&[]);
    std::fs::create_dir(folder.path().join("images")).unwrap();
    let photo = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/photos/cat.jpg");
    std::fs::copy(photo, folder.path().join("images/cat.jpg")).unwrap();
    folder
}

async fn stand_in(behaviour: Behaviour) -> FakeGemini {
    FakeGemini::start(FakeGeminiSettings { port: 0, behaviour }).await.unwrap()
}

/// Remembers what was asked of it.
async fn receiver() -> (String, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let remember = |State(asked): State<Arc<Mutex<Vec<String>>>>, request: Request| async move {
        asked.lock().unwrap().push(format!("{} {}", request.method(), request.uri()));
        "ok"
    };
    let router = Router::new().fallback(remember).with_state(Arc::clone(&asked));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}/hook/fake-hook-token"), asked)
}

/// A mail server that remembers the commands it was given.
async fn mail_server() -> (String, Arc<Mutex<Vec<String>>>) {
    let commands = Arc::new(Mutex::new(Vec::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Arc::clone(&commands);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let heard = Arc::clone(&heard);
            tokio::spawn(async move {
                let (reader, mut writer) = stream.into_split();
                let _ = writer.write_all(b"220 mail.test\r\n").await;
                let mut lines = BufReader::new(reader).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    heard.lock().unwrap().push(line);
                    let _ = writer.write_all(b"250 fine\r\n").await;
                }
            });
        }
    });
    (format!("smtp+insecure://{address}"), commands)
}

fn files_below(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            found.insert(path.display().to_string());
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found
}

#[tokio::test]
async fn everything_that_answers_is_good_and_nothing_is_changed_or_sent() {
    let root = with_a_photograph();
    let gemini = stand_in(Behaviour::default()).await;
    let (hook, asked) = receiver().await;
    let (smtp, commands) = mail_server().await;
    let variables = [
        ("LOOKOUT__REVIEWER__BASE_URL", gemini.base_url.as_str()),
        ("ALERT_WEBHOOK_URL", hook.as_str()),
        ("SMTP_URL", smtp.as_str()),
        ("ALERT_EMAIL_TO", "oncall@example.com"),
    ];
    let before = files_below(root.path());
    let said = doctor(root.path(), &variables, &["--json"]).await;
    assert_eq!(said.code, 0, "{}", said.text);
    assert_eq!(files_below(root.path()), before, "something was written");
    for part in ["state", "clock", "records", "images", "reviewer", "channel"] {
        assert_eq!(said.about(part).0, "good", "{part}\n{}", said.text);
    }
    assert!(said.about("images").1.contains("cat is an image of"), "{}", said.text);
    assert!(said.text.contains("not_checked"), "what was not asked is named: {}", said.text);
    assert!(!said.text.contains("fake-hook-token"), "{}", said.text);
    assert_eq!(asked.lock().unwrap().as_slice(), ["HEAD /"], "no message, no call of the hook");
    let commands = commands.lock().unwrap().clone();
    assert!(commands.iter().any(|command| command.starts_with("EHLO")), "{commands:?}");
    for asked in ["MAIL FROM:<lookout@", "RCPT TO:<oncall@example.com>", "RSET"] {
        assert!(commands.iter().any(|command| command.starts_with(asked)), "{commands:?}");
    }
    assert!(!commands.iter().any(|command| command.starts_with("DATA")), "no mail was sent");

    let said = doctor(root.path(), &variables, &[]).await;
    assert!(said.text.contains("Everything that was tested works."), "{}", said.text);
    assert!(said.text.contains("no message was sent"), "{}", said.text);
}

#[tokio::test]
async fn a_key_that_is_refused_must_be_repaired() {
    let root = with_a_photograph();
    for (outcome, words) in [
        (Outcome::KeyInvalid, "key"),
        (Outcome::KeyLeaked, "published"),
        (Outcome::Location, "ocation"),
    ] {
        let gemini = stand_in(Behaviour::always(outcome)).await;
        let variables = [("LOOKOUT__REVIEWER__BASE_URL", gemini.base_url.as_str())];
        let said = doctor(root.path(), &variables, &["--json"]).await;
        let (state, what) = said.about("reviewer");
        assert_eq!((said.code, state.as_str()), (1, "failed"), "{what}");
        assert!(what.contains(words), "{what}");
    }
}

/// A body that the stand-in sends to every real request.
fn always(status: u16, body: &str) -> Behaviour {
    let raw = Raw { status, body: body.to_owned(), content_type: None };
    Behaviour::always(Outcome::Raw(raw))
}

#[tokio::test]
async fn one_small_request_finds_what_no_free_question_does() {
    let root = with_a_photograph();
    let no_quota = r#"{"error":{"code":429,"message":"Quota exceeded, limit: 0, model: m"}}"#;
    let retired = r#"{"error":{"code":404,"message":"models/m is not found for API version"}}"#;
    let spend_cap = include_str!("../../fixtures/gemini/err-429-spend-cap.json");
    for (status, body, words, instead) in [
        (429, spend_cap, "spend cap reached", "ai.studio/spend"),
        (429, no_quota, "no quota", "link billing"),
        (404, retired, "no such model", "[reviewer] model"),
    ] {
        let gemini = stand_in(always(status, body)).await;
        let variables = [("LOOKOUT__REVIEWER__BASE_URL", gemini.base_url.as_str())];
        let free = doctor(root.path(), &variables, &["--json"]).await;
        assert_eq!(free.code, 0, "the free check can't know: {}", free.text);
        assert!(free.text.contains("lookout doctor --call"), "{}", free.text);
        let said = doctor(root.path(), &variables, &["--json", "--call"]).await;
        assert_eq!(said.code, 1, "{}", said.text);
        assert!(said.text.contains(words) && said.text.contains(instead), "{}", said.text);
    }
    let gemini = stand_in(Behaviour::default()).await;
    let variables = [("LOOKOUT__REVIEWER__BASE_URL", gemini.base_url.as_str())];
    let said = doctor(root.path(), &variables, &["--call"]).await;
    assert_eq!(said.code, 0, "{}", said.text);
    assert!(said.text.contains("there is quota and credit"), "{}", said.text);
    assert_eq!(gemini.stats().calls, 1);
}

#[tokio::test]
async fn a_model_that_is_not_there_must_be_repaired() {
    let root = with_a_photograph();
    let gemini = stand_in(Behaviour::default()).await;
    let variables = [
        ("LOOKOUT__REVIEWER__BASE_URL", gemini.base_url.as_str()),
        ("LOOKOUT__REVIEWER__MODEL", "gemini-0.1-none"),
    ];
    let said = doctor(root.path(), &variables, &["--json"]).await;
    let (state, what) = said.about("reviewer");
    assert_eq!((said.code, state.as_str()), (1, "failed"), "{what}");
    assert!(what.contains("gemini-0.1-none"), "{what}");
}

#[tokio::test]
async fn a_service_that_is_down_comes_back_by_itself_and_unreachable_is_not_called_503() {
    let root = with_a_photograph();
    let gemini = stand_in(Behaviour::always(Outcome::HighDemand)).await;
    let variables = [("LOOKOUT__REVIEWER__BASE_URL", gemini.base_url.as_str())];
    let said = doctor(root.path(), &variables, &["--json"]).await;
    assert_eq!((said.code, said.about("reviewer").0.as_str()), (75, "unavailable"));
    let address = gemini.base_url.clone();
    gemini.shutdown().await;

    let said = doctor(root.path(), &[("LOOKOUT__REVIEWER__BASE_URL", &address)], &["--json"]).await;
    let (state, what) = said.about("reviewer");
    assert_eq!((said.code, state.as_str()), (75, "unavailable"));
    assert!(what.contains("could not be reached") && !what.contains("503"), "{what}");
    assert_eq!(said.about("clock").0, "not_checked");
}

#[tokio::test]
async fn what_can_never_work_is_found_without_asking_anybody() {
    let root = folder(&[
        ("images/notes.jpg", "this is no picture"),
        (
            "schedules/export.toml",
            "cron = \"@daily\"\n[job]\nkind = \"command\"\nargv = [\"no-such-program-here\"]\n",
        ),
        ("schedules/hourly.toml", "cron = \"@hourly\"\n[job]\nkind = \"review\"\n"),
    ]);
    let gemini = stand_in(Behaviour::default()).await;
    let variables = [("LOOKOUT__REVIEWER__BASE_URL", gemini.base_url.as_str())];
    let said = doctor(root.path(), &variables, &["--json"]).await;
    assert_eq!(said.code, 1, "{}", said.text);
    assert!(said.about("images").1.contains("none of the 1 files"), "{}", said.text);
    let (state, what) = said.about("job");
    assert!(state == "failed" && what.contains("no-such-program-here"), "{what}");

    std::fs::write(root.path().join("lookout.toml"), "[servise]\n").unwrap();
    let said = doctor(root.path(), &variables, &[]).await;
    assert_eq!(said.code, 78);
    assert!(said.text.contains("lookout.toml:1: servise"), "{}", said.text);
}
