//! Configuration: what is taken, what is refused and where it is said to be wrong.
//!
//! Files are written to a folder of their own; the environment is a map. No test looks at the
//! variables of the process.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use lookout::alert::channel::ChannelKind;
use lookout::config::problem::Problems;
use lookout::config::{Config, Location};
use lookout::review::settings::{ImageSettings, OnBlocked, RecordKind};
use lookout::run::retention::RetentionLimits;
use lookout::schedule::{Cadence, CatchUp, Find, Job, OnStall, Overlap, SignalMatch, StallOn};
use lookout::timezone::TimeZones;
use lookout::watch::Severity;

/// A folder with these files.
pub(crate) fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

pub(crate) fn load_folder(root: &Path, variables: &[(&str, &str)]) -> Result<Config, Problems> {
    let location = Location { config: None, cwd: root.to_owned(), zones: TimeZones::built_in() };
    let process: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    lookout::config::load(&location, &process)
}

fn load(files: &[(&str, &str)], variables: &[(&str, &str)]) -> Result<Config, Problems> {
    load_folder(folder(files).path(), variables)
}

#[test]
fn with_nothing_at_all_an_hourly_review_of_a_folder_is_built_in() {
    let config = load(&[], &[]).unwrap();
    assert_eq!(config.schedules.len(), 1);
    let schedule = &config.schedules[0];
    assert_eq!(schedule.name.as_str(), "image-review");
    assert_eq!(schedule.cadence, Cadence::Cron("0 * * * *".into()));
    assert_eq!(schedule.time_box, Duration::from_secs(45 * 60));
    assert_eq!(schedule.job, Job::Review { batch: 100 });
    assert!(matches!(config.review.records.kind, RecordKind::Sqlite { .. }));
    assert!(
        matches!(&config.review.images, ImageSettings::Folder { path } if path.ends_with("images"))
    );
    assert!(config.channels.is_empty());
    let warnings = config.warnings();
    assert!(warnings[0].starts_with("NOBODY IS NOTIFIED"), "{warnings:?}");
    assert!(warnings[1].contains("lookout demo"), "{warnings:?}");
}

/// The old service's `.env` (docs/legacy-service.md), and the two lines the user adds.
const OLD_ENV: &str = "\
# old service
GEMINI_API_KEY=first-fake-key, second-fake-key
SUPABASE_URL=https://project.supabase.co/
SUPABASE_ANON_KEY='fake-supabase-key'
LIMIT=25
";
const TWO_LINES: &str = "\
IMAGE_URL=https://bucket.s3.us-east-1.amazonaws.com/{job_id}__{image_index}.jpg
SLACK_WEBHOOK_URL=https://hooks.slack.com/services/fake
";

#[test]
fn the_shortest_way_is_the_old_env_and_two_lines() {
    let config = load(&[(".env", &format!("{OLD_ENV}{TWO_LINES}"))], &[]).unwrap();
    let RecordKind::Supabase { url, key } = &config.review.records.kind else { panic!() };
    assert_eq!(url, "https://project.supabase.co");
    assert_eq!(key.expose(), "fake-supabase-key");
    assert_eq!(config.review.records.table, "midbot_images");
    assert_eq!(config.review.records.pick_up, ["downloaded"]);
    let ImageSettings::Http { url, .. } = &config.review.images else { panic!() };
    assert!(url.ends_with("/{job_id}__{image_index}.jpg"));
    let projects = &config.review.reviewer.projects;
    assert_eq!((projects.len(), projects[0].name.as_str()), (1, "main"));
    assert_eq!(projects[0].keys[1].expose(), "second-fake-key");
    assert_eq!(config.review.batch, 25);
    assert_eq!(config.schedules[0].job, Job::Review { batch: 25 });
    assert_eq!(config.channels.len(), 1);
    assert_eq!(config.channels[0].name, "slack");
    assert_eq!(config.warnings().len(), 1, "one channel only: {:?}", config.warnings());
}

#[test]
fn every_alert_variable_makes_its_channel() {
    let config = load(
        &[],
        &[
            ("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/fake"),
            ("ALERT_WEBHOOK_URL", "http://127.0.0.1:9000/alerts"),
            ("SMTP_URL", "smtps://user:fake-password@mail.example:465"),
            ("ALERT_EMAIL_TO", "a@example.com, b@example.com"),
        ],
    )
    .unwrap();
    let names: Vec<&str> = config.channels.iter().map(|channel| channel.name.as_str()).collect();
    assert_eq!(names, ["slack", "webhook", "email"]);
    let ChannelKind::Email { to, .. } = &config.channels[2].kind else { panic!() };
    assert_eq!(to, &["a@example.com", "b@example.com"]);
}

#[test]
fn a_variable_that_an_alert_file_uses_makes_no_second_channel() {
    let file = "kind = \"slack\"\nwebhook_url = \"${SLACK_WEBHOOK_URL}\"\n";
    let variable = [("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/fake")];
    let config = load(&[("alerts/team.toml", file)], &variable).unwrap();
    assert_eq!(config.channels.len(), 1);
    assert_eq!(config.channels[0].name, "team");

    let off = format!("enabled = false\n{file}");
    let config = load(&[("alerts/team.toml", &off)], &variable).unwrap();
    assert_eq!(config.channels[0].name, "slack", "a file that is off uses nothing");
    assert_eq!(config.switched_off, ["alerts/team.toml"]);

    let config = load(&[("alerts/slack.toml", &off)], &variable).unwrap();
    assert!(config.channels.is_empty(), "a file of its name switches it off");
}

const FULL_MAIN: &str = r#"
[service]
instance = "staging"
bind = "0.0.0.0:8080"
token = "${DASHBOARD_TOKEN}"
state_dir = "/var/lib/lookout"
max_running = 50
logs_per_schedule = "8MiB"
logs_in_all = "2GiB"

[records]
kind = "supabase"
url = "${SUPABASE_URL}"
key_file = "supabase.key"
table = "pictures"
pick_up = ["downloaded", "added"]
[records.columns]
id = "uuid"

[images]
kind = "s3"
bucket = "pictures"
region = "eu-central-1"
endpoint = "https://s3.example.com/"
key = "{job_id}/{image_index}.png"
path_style = true
access_key_id = "${S3_ID}"
secret_access_key = "${S3_SECRET}"

[reviewer]
kind = "gemini"
model = "gemini-3.5-flash"
base_url = "https://gemini.example.com/"
api_version = "v1"
max_in_flight = 32
connect_timeout = "5s"
attempt_timeout = "1m"
try_timeout = "4m"
give_up_after = "8m"
on_blocked = "N1"
prompt_file = "prompt.txt"
[[reviewer.project]]
name = "one"
keys = ["${KEYS}"]
[[reviewer.project]]
keys = "${KEYS}"
[reviewer.prices]
"gemini-3.5-flash" = { input = 0.3, output = 2 }

[picture]
longest_edge = 1024
quality = 90
memory = "128MiB"
max_pixels = 50000000
max_edge = 10000
max_bytes = "20MB"

[budget]
usd_per_run = 2
usd_per_day = 20.5
"#;

const FULL_SCHEDULE: &str = r#"
enabled = true
cron = "30 5 * * 1-5"
timezone = "Europe/Berlin"
jitter = "30s"
start_grace = "3m"
time_box = "1h30m"
signal_grace = "2m"
kill_grace = "20s"
stall_after = "15m"
stall_on = "progress"
signal_match = "line"
on_stall = "stop"
signal = "done"
overlap = "queue"
catch_up = "none"
notify = ["ops"]
image_errors_at_least = 5
image_errors_percent = 50

[job]
kind = "command"
argv = ["python", "old.py", "--region", "${REGION}"]
cwd = "work"
stop_signal = "SIGINT"
user = "nobody"
[job.env]
API_TOKEN = "${DASHBOARD_TOKEN}"

[[pattern]]
text = "Gemini API key validation failed"
kind = "provider_unavailable"
[[pattern]]
regex = "5[0-9][0-9] error"
kind = "failure"
count = 3
within = "10m"

[[maintenance]]
from = "0 2 * * 0"
lasts = "2h"
reason = "backup"
"#;

const FULL_HTTP: &str = r#"
continuous = true
stall_after = "5m"
[job]
kind = "http"
method = "POST"
url = "http://127.0.0.1:8000/bulk_auto_review?region=${REGION}"
repeat = true
idle = "No images found"
idle_pause = "30s"
call_timeout = "10m"
max_body = "1MiB"
body = "{}"
[job.headers]
Authorization = "Bearer ${DASHBOARD_TOKEN}"
"#;

/// Every key of every file, with the folder it stands in.
fn full() -> (tempfile::TempDir, Config) {
    let files = folder(&[
        ("lookout.toml", FULL_MAIN),
        ("supabase.key", "fake-key-of-a-file\n"),
        ("prompt.txt", "Look."),
        ("schedules/old-driver.toml", FULL_SCHEDULE),
        ("schedules/old-service.toml", FULL_HTTP),
        (
            "alerts/ops.toml",
            "kind = \"webhook\"\nurl = \"${HOOK}\"\nsigning_secret = \"${SIGN}\"\nseverity = \"info\"\nfallback = \"screen\"",
        ),
        ("alerts/screen.toml", "kind = \"console\"\nseverity = \"critical\""),
        (
            "alerts/mail.toml",
            "kind = \"email\"\nsmtp_url = \"${SMTP_URL}\"\nfrom = \"a@example.com\"\nto = [\"b@example.com\"]",
        ),
        (".env", "REGION=eu\nDASHBOARD_TOKEN=fake-dashboard-token\nKEYS=fake-key-1,fake-key-2\n"),
    ]);
    let config = load_folder(
        files.path(),
        &[
            ("SUPABASE_URL", "http://127.0.0.1:3000"),
            ("S3_ID", "fake-id"),
            ("S3_SECRET", "fake-secret"),
            ("HOOK", "https://ops.example.com/hook"),
            ("SIGN", "whsec_ZmFrZS1zaWduaW5nLXNlY3JldC1mb3ItdGVzdHM="),
            ("SMTP_URL", "smtp://user:fake-pass-word@mail.example:587"),
            ("LOOKOUT__REVIEWER__MAX_IN_FLIGHT", "8"),
            ("LOOKOUT__RECORDS__PICK_UP", "downloaded, rerun_for_clarity"),
        ],
    )
    .unwrap();
    (files, config)
}

#[test]
fn a_full_configuration_is_read_to_its_last_key() {
    let (_files, config) = full();
    assert_eq!(config.service.instance, "staging");
    assert_eq!(config.service.bind.port(), 8080);
    let kept = RetentionLimits { per_schedule: 8 << 20, in_all: 2 << 30 };
    assert_eq!(config.service.kept, kept);
    assert_eq!(config.service.token.as_ref().unwrap().expose(), "fake-dashboard-token");
    assert_eq!(config.review.state_dir, Path::new("/var/lib/lookout"));
    let RecordKind::Supabase { key, .. } = &config.review.records.kind else { panic!() };
    assert_eq!(key.expose(), "fake-key-of-a-file");
    assert_eq!(config.review.records.columns.id, "uuid");
    assert_eq!(config.review.records.pick_up, ["downloaded", "rerun_for_clarity"]);
    let ImageSettings::S3 { endpoint, credentials, .. } = &config.review.images else { panic!() };
    assert_eq!(endpoint.as_deref(), Some("https://s3.example.com"));
    assert_eq!(credentials.as_ref().unwrap().secret_access_key.expose(), "fake-secret");
    let reviewer = &config.review.reviewer;
    assert_eq!((reviewer.max_in_flight, reviewer.on_blocked), (8, OnBlocked::N1));
    assert_eq!(reviewer.projects.iter().map(|p| p.keys.len()).collect::<Vec<_>>(), [2, 2]);
    assert!((reviewer.prices["gemini-3.5-flash"].output - 2.0).abs() < f64::EPSILON);
    assert_eq!(config.review.picture.max_bytes, 20_000_000);
    assert_eq!(config.review.budget.usd_per_day, Some(20.5));
}

#[test]
fn full_schedules_are_read_to_their_last_key() {
    let (files, config) = full();
    let driver = &config.schedules[0];
    assert_eq!(driver.timezone.name(), "Europe/Berlin");
    assert_eq!((driver.stall_on, driver.on_stall), (StallOn::Progress, OnStall::Stop));
    assert_eq!(driver.signal_match, SignalMatch::Line);
    assert_eq!((driver.overlap, driver.catch_up), (Overlap::Queue, CatchUp::None));
    assert_eq!(driver.time_box, Duration::from_secs(5400));
    assert_eq!(driver.patterns[1].find, Find::Regex("5[0-9][0-9] error".into()));
    assert_eq!(driver.maintenance[0].reason, "backup");
    let Job::Command(command) = &driver.job else { panic!() };
    assert_eq!(command.argv[3], "${REGION}", "literal");
    assert_eq!(command.cwd.as_deref(), Some(files.path().join("work").as_path()));
    assert_eq!(command.env["API_TOKEN"], "${DASHBOARD_TOKEN}", "filled in when the run starts");

    let service = &config.schedules[1];
    assert_eq!(service.cadence, Cadence::Continuous);
    let Job::Http(http) = &service.job else { panic!() };
    assert_eq!(http.headers["Authorization"], "Bearer ${DASHBOARD_TOKEN}");
    assert_eq!(http.max_body, 1 << 20);
}

#[test]
fn no_secret_of_any_channel_file_or_variable_gets_past_the_redactor() {
    let (_files, config) = full();
    assert_eq!(config.channels.len(), 3);
    assert_eq!(config.channels[1].severity, Severity::Info);
    let redactor = config.redactor();
    for secret in [
        "fake-key-2",
        "fake-key-of-a-file",
        "fake-pass-word",
        "whsec_ZmFrZS1zaWduaW5nLXNlY3JldC1mb3ItdGVzdHM=",
    ] {
        assert_eq!(redactor.redact(secret), "[redacted]", "{secret}");
    }
    let debug = format!("{config:?}");
    assert_eq!(redactor.redact(&debug), debug, "Debug of the configuration shows a secret");
}

#[test]
fn examples_that_are_off_need_no_account_and_leave_the_built_in_schedule_alone() {
    let config = load(
        &[
            (
                "schedules/old.toml",
                "enabled = false\ncron = \"@hourly\"\n[job]\nkind = \"http\"\nurl = \"${OLD}\"",
            ),
            ("alerts/x.toml", "enabled = false\nkind = \"slack\"\nwebhook_url = \"${NOT_SET}\""),
        ],
        &[],
    )
    .unwrap();
    assert_eq!(config.schedules[0].name.as_str(), "image-review");
    assert!(config.channels.is_empty());

    let off = "enabled = false\ncron = \"@hourly\"\n[job]\nkind = \"review\"";
    let config = load(&[("schedules/image-review.toml", off)], &[]).unwrap();
    assert!(config.schedules.is_empty());
    assert!(config.warnings().iter().any(|warning| warning.starts_with("NOTHING WILL RUN")));
}

/// A schedule that is right but for what the test puts in.
fn schedule_with(line: &str) -> String {
    let cron = if line.contains("cron") || line.contains("continuous") {
        ""
    } else {
        "cron = \"@hourly\"\n"
    };
    let job = if line.contains("[job]") { "" } else { "\n[job]\nkind = \"review\"\n" };
    format!("{cron}{line}{job}")
}

/// Each bad value alone: the file it is in, the key that is named, and words of the report.
#[test]
fn one_wrong_value_of_records_is_one_problem_that_names_it() {
    for (text, key, words) in [
        ("[records]\nkind = \"postgres\"", "records.kind", "\"supabase\" or \"sqlite\""),
        (
            "[records]\nkind = \"supabase\"\n[images]\nkind = \"folder\"",
            "records.url",
            "SUPABASE_URL",
        ),
        ("[records]\ntable = \"a b\"", "records.table", "can't be the name"),
        ("[records]\npick_up = []", "records.pick_up", "nothing would be reviewed"),
        ("[records]\npick_up = [\"processing\"]", "records.pick_up", "lookout rerun"),
        ("[records]\npick_up = \"downloaded\"", "records.pick_up", "a list of texts"),
        ("[records.statuses]\nsuccess = \"\"", "records.statuses.success", "can't be a status"),
        (
            "[records.statuses]\nsuccess = \"done\"\nerror = \"done\"",
            "records.statuses.error",
            "the status `success` already",
        ),
        (
            "[records.statuses]\nsuccess = \"a\"\nerror = \"auto_review_success\"",
            "records.statuses.error",
            "usual word for another status",
        ),
        (
            "[records]\npick_up = [\"done\"]\n[records.statuses]\nsuccess = \"done\"",
            "records.pick_up",
            "lookout rerun",
        ),
        (
            "[records]\npick_up = [\"processing\"]\n[records.statuses]\nprocessing = \"taken\"",
            "records.pick_up",
            "calls \"taken\"",
        ),
        ("[records.columns]\nidd = \"x\"", "records.columns.idd", "did you mean `id`?"),
    ] {
        expect_one("lookout.toml", text, key, words);
    }
}

#[test]
fn one_wrong_value_in_lookout_toml_is_one_problem_that_names_it() {
    for (text, key, words) in [
        ("[service]\ninstance = \"a/b\"", "service.instance", "incident's key"),
        ("[service]\nbind = \"8720\"", "service.bind", "not an IP address with a port"),
        ("[service]\nbind = \"0.0.0.0:8720\"", "service.bind", "LOOKOUT_TOKEN"),
        ("[service]\ntoken = \"typed-into-the-file\"", "service.token", "secrets do not belong"),
        ("[service]\nmax_running = 0", "service.max_running", "out of range"),
        ("[service]\nmax_running = \"5\"", "service.max_running", "not a text"),
        ("[service]\nstate_dri = \"x\"", "service.state_dri", "did you mean `state_dir`?"),
        ("[servcie]\nbind = \"x\"", "servcie", "did you mean `service`?"),
        ("service = 5", "service", "a section"),
        ("[images]\nkind = \"http\"", "images.url", "address of the images is missing"),
        ("[images]\nurl = \"https://b/{job_id\"", "images.url", "braces"),
        ("[images]\nurl = \"https://b/x.jpg\"", "images.url", "same for every image"),
        ("[images]\nurl = \"https://{job_id}.b/x\"", "images.url", "host name must not"),
        ("[images]\nurl = \"ftp://b/{job_id}\"", "images.url", "not a web address"),
        ("[images]\nkind = \"s3\"", "images.bucket", "no bucket"),
        ("[reviewer]\nmodel = \"a b\"", "reviewer.model", "id of a model"),
        ("[reviewer]\nbase_url = \"gemini\"", "reviewer.base_url", "not a web address"),
        ("[reviewer]\napi_version = \"v2\"", "reviewer.api_version", "\"v1beta\" or \"v1\""),
        ("[reviewer]\nmax_in_flight = 100000", "reviewer.max_in_flight", "from 1 to 512"),
        ("[reviewer]\nattempt_timeout = 90", "reviewer.attempt_timeout", "duration in quotes"),
        (
            "[reviewer]\nattempt_timeout = \"90\"",
            "reviewer.attempt_timeout",
            "\"90\" is not a duration",
        ),
        ("[reviewer]\nattempt_timeout = \"0s\"", "reviewer.attempt_timeout", "longer than zero"),
        (
            "[reviewer]\nattempt_timeout = \"2m\"\ntry_timeout = \"1m\"",
            "reviewer.attempt_timeout",
            "one attempt may take 2m, but all attempts of a try together only 1m",
        ),
        ("[reviewer]\non_blocked = \"n1\"", "reviewer.on_blocked", "did you mean \"N1\"?"),
        ("[reviewer]\nprompt_file = \"none.txt\"", "reviewer.prompt_file", "there is no file"),
        ("[[reviewer.project]]\nname = \"a\"", "reviewer.project[1].keys", "no keys"),
        (
            "[[reviewer.project]]\nkeys = [\"typed-into-the-file\"]",
            "reviewer.project[1].keys",
            "secrets do not belong",
        ),
        (
            "[[reviewer.project]]\nkeys = [\"${NOT_THERE}\"]",
            "reviewer.project[1].keys",
            "NOT_THERE is not set",
        ),
        ("[reviewer.prices]\nm = { input = 1 }", "reviewer.prices.m.output", "half of the price"),
        ("[picture]\nquality = 101", "picture.quality", "from 1 to 100"),
        ("[picture]\nmemory = \"lots\"", "picture.memory", "not a size"),
        ("[picture]\nmemory = \"1MiB\"", "picture.memory", "one file may have"),
        ("[budget]\nusd_per_run = -1", "budget.usd_per_run", "0 or above"),
        ("[budget]\nusd_per_day = nan", "budget.usd_per_day", "0 or above"),
    ] {
        expect_one("lookout.toml", text, key, words);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table: one line a case")]
fn one_wrong_value_in_a_schedule_is_one_problem_that_names_it() {
    for (line, key, words) in [
        ("cron = \"61 * * * *\"", "cron", "minute"),
        ("cron = \"0 0 30 2 *\"", "cron", "0 0 30 2 *"),
        ("cron = \"${WHEN}\"", "cron", "not filled in here"),
        ("timezone = \"${ZONE}\"", "timezone", "not filled in here"),
        ("notify = [\"${WHO}\"]", "notify", "not filled in here"),
        (
            "[[maintenance]]\nfrom = \"${WHEN}\"\nlasts = \"1h\"",
            "maintenance[1].from",
            "not filled",
        ),
        (
            "[job]\nkind = \"command\"\nargv = [\"x\"]\ncwd = \"/srv/${PLACE}\"",
            "job.cwd",
            "not filled in here",
        ),
        (
            "[job]\nkind = \"command\"\nargv = [\"x\"]\nuser = \"${TOKEN}\"",
            "job.user",
            "not filled in here",
        ),
        (
            "[job]\nkind = \"command\"\nargv = [\"x\"]\nenv = { P = \"${HOME:-x}/b\" }",
            "job.env.P",
            "`$${HOME:-x}` to keep the text",
        ),
        (
            "[job]\nkind = \"http\"\nurl = \"http://h/\"\nbody = \"${NOT_THERE}\"",
            "job.body",
            "NOT_THERE is not set",
        ),
        ("cron = \"@hourly\"\ncontinuous = true", "continuous", "keep one"),
        ("continuous = false", "cron", "when to run"),
        ("timezone = \"Europe/Berln\"", "timezone", "did you mean \"Europe/Berlin\"?"),
        ("time_box = \"45\"", "time_box", "not a duration"),
        ("time_box = \"55m\"", "time_box", "55m + signal_grace 5m = 1h, but \"@hourly\""),
        ("jitter = \"10m\"", "cron", "jitter 10m = 1h"),
        ("stall_after = \"51m\"", "stall_after", "time_box 45m + signal_grace 5m = 50m"),
        ("stall_on = \"noise\"", "stall_on", "\"output\" or \"progress\""),
        ("signal = \"\"", "signal", "found in every output"),
        ("signal = \"other\"", "signal", "never prints this"),
        ("signal_match = \"line\"", "signal_match", "a line of its own"),
        ("overlap = \"skpi\"", "overlap", "did you mean \"skip\"?"),
        ("notify = [\"nobody\"]", "notify", "no channel called \"nobody\""),
        ("image_errors_percent = 101", "image_errors_percent", "from 0 to 100"),
        ("timebox = \"5m\"", "timebox", "did you mean `time_box`?"),
        ("[[pattern]]\nkind = \"failure\"", "pattern[1].text", "what to look for"),
        ("[[pattern]]\ntext = \"x\"", "pattern[1].kind", "what it means"),
        ("[[pattern]]\ntext = \"x\"\nkind = \"was_blind\"", "pattern[1].kind", "not one of"),
        (
            "[[pattern]]\nregex = \"(\"\nkind = \"failure\"",
            "pattern[1].regex",
            "not a valid regular expression",
        ),
        ("[[pattern]]\nregex = \"a*\"\nkind = \"failure\"", "pattern[1].regex", "empty line"),
        ("[[maintenance]]\nfrom = \"0 2 * * 0\"", "maintenance[1].lasts", "how long"),
        ("[[maintenance]]\nfrom = \"x\"\nlasts = \"1h\"", "maintenance[1].from", "cron"),
        ("[job]\nkind = \"rest\"", "job.kind", "\"review\" or \"command\" or \"http\""),
        ("[job]\nbatch = 5", "job.kind", "what to run"),
        ("[job]\nkind = \"review\"\nbatch = 0", "job.batch", "out of range"),
        ("[job]\nkind = \"review\"\nargv = [\"x\"]", "job.argv", "no such setting"),
        ("[job]\nkind = \"command\"", "job.argv", "program to start is missing"),
        ("[job]\nkind = \"command\"\nargv = []", "job.argv", "program to start is missing"),
        (
            "[job]\nkind = \"command\"\nargv = [\"x\"]\nstop_signal = \"SIGKILL\"",
            "job.stop_signal",
            "SIGINT",
        ),
        (
            "[job]\nkind = \"command\"\nargv = [\"x\"]\nenv = { API_KEY = \"typed\" }",
            "job.env.API_KEY",
            "secrets do not belong",
        ),
        ("[job]\nkind = \"http\"", "job.url", "address to call is missing"),
        ("[job]\nkind = \"http\"\nurl = \"127.0.0.1\"", "job.url", "not a web address"),
        (
            "[job]\nkind = \"http\"\nurl = \"https://user:typed-password@host/\"",
            "job.url",
            "looks like a key",
        ),
        (
            "[job]\nkind = \"http\"\nurl = \"http://h/\"\ncall_timeout = \"2h\"",
            "job.call_timeout",
            "one call may take 2h",
        ),
        (
            "[job]\nkind = \"http\"\nurl = \"http://h/\"\nheaders = { Authorization = \"Bearer typed\" }",
            "job.headers.Authorization",
            "secrets do not belong",
        ),
    ] {
        expect_one("schedules/nightly.toml", &schedule_with(line), key, words);
    }
}

#[test]
fn one_wrong_value_in_an_alert_file_is_one_problem_that_names_it() {
    for (text, key, words) in [
        ("severity = \"info\"", "kind", "what kind of channel"),
        ("kind = \"pager\"", "kind", "not one of"),
        ("kind = \"slack\"", "webhook_url", "SLACK_WEBHOOK_URL"),
        ("kind = \"slack\"\nwebhook_url = \"https://x/typed\"", "webhook_url", "do not belong"),
        (
            "kind = \"slack\"\nwebhook_url = \"${NOT_THERE}\"",
            "webhook_url",
            "put the line NOT_THERE=",
        ),
        ("kind = \"slack\"\nwebhook_url = \"${BAD}\"", "webhook_url", "not a web address"),
        ("kind = \"slack\"\nwebhook_url_file = \"none\"", "webhook_url_file", "can't be read"),
        ("kind = \"webhook\"\nurl = \"\"", "url", "empty"),
        ("kind = \"email\"\nsmtp_url = \"${MAIL}\"", "to", "there is no recipient"),
        ("kind = \"email\"\nsmtp_url = \"${MAIL}\"\nto = [\"x\"]", "to", "not an email address"),
        ("kind = \"email\"\nsmtp_url = \"${HOOK}\"\nto = [\"a@b\"]", "smtp_url", "smtp://"),
        ("kind = \"slack\"\nwebhook_url = \"${PLAIN}\"", "webhook_url", "it is a secret"),
        (
            "kind = \"webhook\"\nurl = \"${HOOK}\"\nsigning_secret = \"${BAD}\"",
            "signing_secret",
            "openssl rand",
        ),
        ("kind = \"console\"\nseverity = \"bad\"", "severity", "\"warning\""),
        ("kind = \"console\"\nfallback = \"x\"", "fallback", "no channel called \"x\""),
        ("kind = \"console\"\nfallback = \"team\"", "fallback", "circle: team → team"),
        ("kind = \"console\"\nwebhook_url = \"${HOOK}\"", "webhook_url", "no such setting"),
        ("kind = \"console\"\nenabled = \"yes\"", "enabled", "true or false"),
    ] {
        expect_one("alerts/team.toml", text, key, words);
    }
}

fn expect_one(file: &str, text: &str, key: &str, words: &str) {
    let variables = [
        ("BAD", "not-an-address"),
        ("PLAIN", "http://hooks.example.com/services/x"),
        ("HOOK", "https://ops.example.com/hook"),
        ("MAIL", "smtp://mail.example:587"),
        ("GEMINI_API_KEY", "fake-key-for-test"),
        ("SUPABASE_KEY", "fake-key-for-test"),
    ];
    let Problems(problems) = match load(&[(file, text)], &variables) {
        Ok(_) => panic!("taken, but should be refused:\n{text}"),
        Err(problems) => problems,
    };
    assert_eq!(problems.len(), 1, "{text}\n{problems:#?}");
    let problem = &problems[0];
    assert_eq!(problem.key, key, "{text}\n{problem}");
    assert_eq!(problem.place.file, file, "{text}\n{problem}");
    assert!(problem.to_string().contains(words), "{text}\n{problem}");
}

#[test]
fn wrong_variables_are_named_with_their_line() {
    for (env, key, words) in [
        ("LIMIT=many", "LIMIT", "not a valid number of images"),
        (
            "SUPABASE_URL=https://p.supabase.co\nGEMINI_API_KEY=x\nIMAGE_URL=https://b/{id}",
            "SUPABASE_KEY",
            "no key for Supabase",
        ),
        (
            "SUPABASE_URL=https://p.supabase.co\nSUPABASE_KEY=x\nGEMINI_API_KEY=x",
            "IMAGE_URL",
            "where their images are",
        ),
        (
            "SUPABASE_URL=https://p.supabase.co\nSUPABASE_KEY=x\nIMAGE_URL=https://b/{id}",
            "GEMINI_API_KEY",
            "no key for Gemini",
        ),
        (
            "SUPABASE_URL=p.supabase.co\nSUPABASE_KEY=x\nGEMINI_API_KEY=x\nIMAGE_URL=https://b/{id}",
            "SUPABASE_URL",
            "not a web address",
        ),
        ("IMAGE_URL=https://b/x.jpg\nGEMINI_API_KEY=x", "IMAGE_URL", "same for every image"),
        ("SLACK_WEBHOOK_URL=T0/B0/x", "SLACK_WEBHOOK_URL", "not a web address"),
        ("ALERT_EMAIL_TO=a@example.com", "SMTP_URL", "address of a mail server"),
        ("SMTP_URL=mail.example\nALERT_EMAIL_TO=a@example.com", "SMTP_URL", "smtps://"),
        ("LOOKOUT__SERVICE__BIDN=x", "LOOKOUT__SERVICE__BIDN", "did you mean `bind`?"),
        ("LOOKOUT__SERVCE__BIND=x", "LOOKOUT__SERVCE__BIND", "did you mean `service`?"),
        ("LOOKOUT__BIND=x", "LOOKOUT__BIND", "names no setting"),
        ("LOOKOUT__SERVICE__BIND=x", "LOOKOUT__SERVICE__BIND", "not an IP address with a port"),
        ("LOOKOUT__PICTURE__QUALITY=high", "LOOKOUT__PICTURE__QUALITY", "whole number"),
        ("this is no assignment", "", "no `=`"),
    ] {
        let Problems(problems) = load(&[(".env", env)], &[]).unwrap_err();
        assert_eq!(problems.len(), 1, "{env}\n{problems:#?}");
        assert_eq!(problems[0].key, key, "{env}\n{}", problems[0]);
        assert_eq!(problems[0].place.file, ".env", "{env}\n{}", problems[0]);
        assert!(problems[0].to_string().contains(words), "{env}\n{}", problems[0]);
    }
}

#[test]
fn the_configuration_file_that_was_asked_for_must_be_there() {
    let location = Location {
        config: Some("none.toml".into()),
        cwd: tempfile::tempdir().unwrap().path().to_owned(),
        zones: TimeZones::built_in(),
    };
    let problems = lookout::config::load(&location, &BTreeMap::new()).unwrap_err();
    assert!(problems.to_string().contains("none.toml: there is no such file"), "{problems}");
}

#[test]
fn files_stand_beside_the_configuration_wherever_lookout_is_started() {
    let files = folder(&[
        ("etc/prod.toml", "[service]\nstate_dir = \"data\""),
        ("etc/.env", "LIMIT=7"),
        ("etc/schedules/a.toml", "cron = \"@daily\"\n[job]\nkind = \"review\""),
    ]);
    let location = Location {
        config: Some("etc/prod.toml".into()),
        cwd: files.path().to_owned(),
        zones: TimeZones::built_in(),
    };
    let config = lookout::config::load(&location, &BTreeMap::new()).unwrap();
    assert_eq!(config.root, files.path().join("etc"));
    assert_eq!(config.service.state_dir, files.path().join("etc/data"));
    assert_eq!(config.review.batch, 7);
    assert_eq!(config.schedules[0].name.as_str(), "a");
}

#[test]
fn a_table_may_be_in_another_schema_but_not_in_the_embedded_database() {
    let toml = "[records]\nschema = \"app\"\n";
    let supabase = [
        ("SUPABASE_URL", "https://p.supabase.co"),
        ("SUPABASE_KEY", "fake"),
        ("GEMINI_API_KEY", "fake"),
        ("IMAGE_URL", "https://bucket.example/{id}.jpg"),
    ];
    let config = load(&[("lookout.toml", toml)], &supabase).unwrap();
    assert_eq!(config.review.records.schema.as_deref(), Some("app"));
    let problems = load(&[("lookout.toml", toml)], &[]).unwrap_err().to_string();
    assert!(problems.contains("has no schemas"), "{problems}");
}

#[test]
fn a_schedule_file_whose_name_cannot_be_an_address_is_refused() {
    let problems = load(&[("schedules/Night Run.toml", "")], &[]).unwrap_err().to_string();
    assert!(problems.contains("schedules/Night Run.toml: this file name"), "{problems}");
    assert!(load(&[("schedules/notes.md", "x"), ("schedules/.hidden.toml", "x")], &[]).is_ok());
}

#[test]
fn all_problems_of_all_files_are_told_at_once() {
    let files = folder(&[
        (".env", "GEMINI_API_KEY=x\n\nnonsense\nLOOKOUT__PICTURE__QUALTIY=5\n"),
        (
            "lookout.toml",
            "[service]\nbind = \"0.0.0.0:80\"\nport = 80\n\n[reviewer]\nattempt_timeout = \"ninety\"\n",
        ),
        (
            "schedules/broken.toml",
            "cron = \"0 * * * *\ntime_box = \"45m\"\n[job]\nkind = \"review\"\n",
        ),
        (
            "schedules/hourly.toml",
            "cron = \"0 * * * *\"\ntime_box = \"58m\"\nnotify = [\"oncall\"]\n[job]\nkind = \"review\"\n",
        ),
        ("alerts/team.toml", "kind = \"slack\"\nwebhook_url = \"${TEAM_SLACK}\"\n"),
        ("alerts/oncall.toml", "kind = \"email\"\nsmtp_url = \"typed\"\nto = []\n"),
    ]);
    let problems = load_folder(files.path(), &[]).unwrap_err();
    let root = files.path().display().to_string();
    insta::assert_snapshot!(problems.to_string().replace(&root, "<folder>"));
}

#[test]
fn a_placeholder_that_is_no_column_of_the_contract_is_named() {
    let warned = |url: &str| {
        let env = format!(
            "SUPABASE_URL=https://x.supabase.co\nSUPABASE_KEY=fake-key-fake-key\nGEMINI_API_KEY=k\nIMAGE_URL={url}\n"
        );
        let config = load(&[(".env", &env)], &[]).unwrap();
        config.warnings().into_iter().find(|warning| warning.contains("columns with these names"))
    };
    assert_eq!(warned("https://b.example/{job_id}__{image_index}.jpg"), None);
    assert_eq!(warned("https://b.example/{id}.jpg"), None);
    let text = warned("https://b.example/{job}__{index}.jpg").unwrap();
    assert!(text.contains("{job} and {index}"), "{text}");
}

#[test]
fn a_shell_keeps_its_own_dollars_and_names_of_dotenv_in_argv_are_warned_of() {
    let script = r"d=$(date +%F); echo ${d} ${HOME:-x} ${#d} $${d} ${TOKEN} ${GIVEN}";
    let schedule = format!(
        "cron = \"@hourly\"\nsignal = \"${{PART}} done\"\n[job]\nkind = \"command\"\n\
         argv = [\"sh\", \"-c\", '{script}']\n[job.env]\nGIVEN = \"${{GIVEN}}\"\n\
         PRICE = \"$$5 $${{x}}\""
    );
    let dotenv = "TOKEN=not-a-real-token\nGIVEN=not-a-real-one-too\nPART=x\n";
    let files = [(".env", dotenv), ("schedules/nightly.toml", schedule.as_str())];
    let config = load(&files, &[]).unwrap();
    let Job::Command(command) = &config.schedules[0].job else { panic!() };
    assert_eq!(command.argv[2], script);
    let warnings = config.warnings().join("\n");
    assert!(warnings.contains("${TOKEN} in argv is not filled in any more"), "{warnings}");
    assert!(warnings.contains("[job.env] TOKEN = \"${TOKEN}\""), "{warnings}");
    assert!(warnings.contains("\"${PART} done\" is looked for as it is written"), "{warnings}");
    assert!(!warnings.contains("${GIVEN}") && !warnings.contains("${d}"), "{warnings}");
}
