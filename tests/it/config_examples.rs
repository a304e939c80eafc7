//! What is shipped loads: the examples, and what `lookout init` writes.
//!
//! The examples say what the defaults are; that they say it rightly is a test, too.

use std::path::{Path, PathBuf};
use std::process::Command;

use lookout::cli::init;
use lookout::config::Config;
use lookout::schedule::{Find, Job};
use lookout::watch::IncidentKind;

use crate::config::{folder, load_folder};

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn copy(folder: &str, into: &Path) -> usize {
    let target = into.join(folder);
    std::fs::create_dir_all(&target).unwrap();
    let mut n_files = 0;
    for entry in std::fs::read_dir(repository().join(folder)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, target.join(path.file_name().unwrap())).unwrap();
        n_files += 1;
    }
    n_files
}

#[test]
fn a_fresh_clone_is_right_as_it_is() {
    let clone = tempfile::tempdir().unwrap();
    let n_files = copy("schedules", clone.path()) + copy("alerts", clone.path());
    let config = load_folder(clone.path(), &[]).unwrap();
    assert_eq!(config.switched_off.len(), n_files, "every shipped example is off");
    assert_eq!(config.schedules[0].name.as_str(), "image-review", "the built-in one stands in");
}

#[test]
fn every_example_is_right_when_it_is_switched_on() {
    let clone = tempfile::tempdir().unwrap();
    let n_files = copy("schedules", clone.path()) + copy("alerts", clone.path());
    for folder in ["schedules", "alerts"] {
        for entry in std::fs::read_dir(clone.path().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(&path, text.replace("enabled = false", "enabled = true")).unwrap();
        }
    }
    let config = load_folder(
        clone.path(),
        &[
            ("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/fake"),
            ("SMTP_URL", "smtps://user:fake-password@mail.example:465"),
            ("ALERT_WEBHOOK_URL", "https://ops.example.com/hook"),
            ("ALERT_WEBHOOK_SECRET", "whsec_ZmFrZS1zaWduaW5nLXNlY3JldC1mb3ItdGVzdHM="),
        ],
    )
    .unwrap();
    assert_eq!(config.schedules.len() + config.channels.len(), n_files);
    assert_eq!(config.switched_off, [""; 0]);
}

/// The texts are from the old service's own log (docs/legacy-service.md).
#[test]
fn the_old_service_s_failures_are_known_for_what_they_are() {
    let clone = tempfile::tempdir().unwrap();
    copy("schedules", clone.path());
    let path = clone.path().join("schedules/old-service-http.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("enabled = false", "enabled = true")).unwrap();
    let config = load_folder(clone.path(), &[]).unwrap();
    assert_eq!(config.schedules.len(), 1, "the built-in review does not run beside it");
    let kinds = |answer: &str| -> Vec<String> {
        let matches = |find: &Find| match find {
            Find::Text(text) => answer.contains(text),
            Find::Regex(regex) => regex::Regex::new(regex).unwrap().is_match(answer),
        };
        let patterns = config.schedules[0].patterns.iter().filter(|p| matches(&p.find));
        patterns.map(|p| p.kind.clone()).collect()
    };
    let outage = "Gemini API key validation failed: Timeout of 600.0s exceeded, last exception: \
                  503 failed to connect to all addresses; last error: UNKNOWN: ipv4:…:443: tcp \
                  handshaker shutdown";
    assert_eq!(kinds(outage), ["failure", IncidentKind::ProviderUnavailable.as_str()]);
    let key = "Gemini API key validation failed: 400 API key not valid. Please pass a valid API \
               key. [reason: \"API_KEY_INVALID\" …]";
    assert_eq!(kinds(key), ["failure", IncidentKind::CredentialsRejected.as_str()]);
    assert_eq!(kinds("{\"message\":\"Bulk processing completed.\",\"results\":[]}"), [""; 0]);
    let Job::Http(job) = &config.schedules[0].job else { panic!() };
    let idle = "No images found with review_status='downloaded'.";
    assert!(idle.contains(job.idle.as_deref().unwrap()));
}

#[test]
fn the_environment_examples_load_as_they_are_and_with_the_old_service_s_values() {
    for example in [".env.example", "deploy/lookout.env.example"] {
        let text = std::fs::read_to_string(repository().join(example)).unwrap();
        let empty = folder(&[(".env", &text)]);
        assert!(load_folder(empty.path(), &[]).is_ok(), "{example}");
        let filled = text
            .replace("GEMINI_API_KEY=", "GEMINI_API_KEY=fake-gemini-key")
            .replace("SUPABASE_URL=", "SUPABASE_URL=https://project.supabase.co")
            .replace("SUPABASE_KEY=", "SUPABASE_KEY=fake-supabase-key")
            .replace("\nIMAGE_URL=", "\nIMAGE_URL=https://b.example/{job_id}__{image_index}.jpg")
            .replace("ALERT_WEBHOOK_URL=", "ALERT_WEBHOOK_URL=https://ops.example/hook");
        let filled = folder(&[(".env", &filled)]);
        let config = load_folder(filled.path(), &[]).unwrap();
        assert_eq!(config.channels.len(), 1, "{example}");
        assert_eq!(config.review.reviewer.projects[0].keys.len(), 1, "{example}");
    }
}

#[test]
fn the_unit_stops_the_daemon_and_leaves_its_runs_alone() {
    let unit = std::fs::read_to_string(repository().join("deploy/lookout.service")).unwrap();
    let has = |line: &str| unit.lines().any(|l| l == line);
    assert!(has("KillMode=process") && has("OOMPolicy=continue"));
    assert!(has("RestartPreventExitStatus=78"));
    // systemd removes both when the daemon stops, while a run may go on.
    assert!(!unit.lines().any(|l| l.starts_with("PrivateTmp=") || l.starts_with("RuntimeDirec")));
}

/// Takes away the `#` of every line that claims to be a default.
fn with_defaults_written_out(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|rest| is_setting(rest)).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

fn is_setting(text: &str) -> bool {
    text.split_once(" = ").is_some_and(|(key, _)| {
        !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    })
}

#[test]
fn the_defaults_that_the_examples_name_are_the_defaults() {
    let main = with_defaults_written_out(init::FILES[1].1);
    let schedule = with_defaults_written_out(init::FILES[2].1);
    assert!(main.contains("\nquality = 85"), "{main}");
    assert!(schedule.contains("\nkill_grace = \"10s\""), "{schedule}");
    let written = folder(&[("lookout.toml", &main), ("schedules/image-review.toml", &schedule)]);
    let written = load_folder(written.path(), &[]).unwrap();
    let empty = folder(&[]);
    let built_in = load_folder(empty.path(), &[]).unwrap();
    // The folders differ, so paths are compared by what follows them.
    let rooted = |config: &Config| {
        let root = config.root.display().to_string();
        format!("{:#?}", (&config.service, &config.review, &config.schedules)).replace(&root, "…")
    };
    assert_eq!(rooted(&written), rooted(&built_in));
}

#[test]
fn what_init_writes_passes_check_and_nothing_is_ever_overwritten() {
    let here = folder(&[("alerts/team-slack.toml", "kind = \"console\"\n")]);
    let lookout = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_lookout"))
            .args(arguments)
            .current_dir(here.path())
            .env_clear()
            .output()
            .unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = lookout(&["init"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("written  lookout.toml"), "{said}");
    assert!(said.contains("kept     alerts/team-slack.toml"), "{said}");
    let kept = std::fs::read_to_string(here.path().join("alerts/team-slack.toml")).unwrap();
    assert_eq!(kept, "kind = \"console\"\n");

    let (code, said) = lookout(&["check"]);
    assert_eq!(code, 0, "{said}");
    for words in [
        "image-review: review, 100 rows at a time; \"0 * * * *\" (UTC), box 45m; next ",
        "team-slack: console, warning and above",
        "one channel only (team-slack)",
        "Gemini gemini-3.5-flash-lite",
        "The configuration is right.",
    ] {
        assert!(said.contains(words), "{words} is not in:\n{said}");
    }
    // README, "Moving over": the old service is guarded, and nothing else runs.
    let set = |file: &str, from: &str, to: &str| {
        let path = here.path().join("schedules").join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    };
    set("image-review.toml", "# enabled = true", "enabled = false");
    let (code, said) = lookout(&["check"]);
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("image-review: review"), "off, and nothing stands in for it: {said}");
    set("old-service-http.toml", "enabled = false", "enabled = true");
    let (code, said) = lookout(&["check"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("old-service-http: "), "{said}");
    assert!(!said.contains("image-review: review"), "{said}");

    let (_, said) = lookout(&["init"]);
    assert!(!said.contains("written"), "{said}");
}

#[test]
fn check_ends_with_78_and_every_problem_or_shows_no_secret() {
    let here = folder(&[
        (
            ".env",
            "GEMINI_API_KEY=not-a-real-key-at-all\nSLACK_WEBHOOK_URL=https://hooks.example/fake\n",
        ),
        ("lookout.toml", "[service]\nbindd = 5\n[picture]\nquality = 0\n"),
    ]);
    let check = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_lookout"))
            .arg("check")
            .args(arguments)
            .current_dir(here.path())
            .env_clear()
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let (code, stdout, stderr) = check(&[]);
    assert_eq!((code, stdout.as_str()), (78, ""));
    assert!(stderr.contains("2 problems") && stderr.contains("lookout.toml:4: picture.quality"));
    let (code, stdout, _) = check(&["--json"]);
    let object: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, object["problems"][0]["line"].as_u64()), (78, Some(2)));

    std::fs::write(here.path().join("lookout.toml"), "").unwrap();
    for arguments in [&[][..], &["--json"]] {
        let (code, stdout, stderr) = check(arguments);
        assert_eq!(code, 0, "{stderr}");
        assert!(!stdout.contains("not-a-real-key-at-all"), "{stdout}");
        assert!(!stdout.contains("hooks.example"), "{stdout}");
        assert!(stdout.contains("…-all"), "keys can be told apart: {stdout}");
    }
}
