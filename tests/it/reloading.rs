//! Files that change while the daemon runs: what is right takes effect, what is broken is told once and
//! changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use lookout::alert::outbox::Outbox;
use lookout::app::reload::{Files, Look, Looked, Reloader};
use lookout::clock::Clock;
use lookout::clock::SimClock;
use lookout::config::{LastGood, Location, usable};
use lookout::schedule::{Cadence, Schedule};
use lookout::store::GuardDb;
use lookout::timezone::TimeZones;
use lookout::watch::delivery_log::DeliveryLog;
use lookout::watch::history::{History, IncidentFilter};
use lookout::watch::{Incident, IncidentKind, IncidentState};

use crate::config::folder;
use crate::guard::epoch;

fn command(cron: &str) -> String {
    format!("cron = \"{cron}\"\n[job]\nkind = \"command\"\nargv = [\"true\"]\n")
}

const CONSOLE: &str = "kind = \"console\"\n";
const BROKEN: &str = "cron = \"0 * * * *\"\ntime_bix = \"45m\"\n[job]\nkind = \"review\"\n";

pub(crate) struct Reloading {
    folder: tempfile::TempDir,
    db: GuardDb,
    clock: Arc<SimClock>,
    reloader: Reloader,
}

impl Reloading {
    fn of(files: &[(&str, &str)]) -> Self {
        Self::with_zones(files, TimeZones::built_in())
    }

    pub(crate) fn with_zones(files: &[(&str, &str)], zones: TimeZones) -> Self {
        let folder = folder(files);
        let clock = Arc::new(SimClock::new(epoch()));
        let db = GuardDb::in_memory().unwrap();
        let reloader = reloader(&folder, zones, &db, &clock);
        Self { folder, db, clock, reloader }
    }

    /// Twice: what has changed must have settled before it is read.
    pub(crate) async fn look_again(&mut self) -> Looked {
        self.look(Look::Changed).await;
        self.look(Look::Changed).await
    }

    pub(crate) fn schedules_now(&self) -> Vec<Schedule> {
        self.reloader.schedules().borrow().clone()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.folder.path().join(name)).unwrap();
    }

    async fn look(&mut self, look: Look) -> Looked {
        self.reloader.step(look, self.clock.now()).await.unwrap()
    }

    fn schedules(&self) -> Vec<(String, Cadence)> {
        let schedules: Vec<Schedule> = self.reloader.schedules().borrow().clone();
        schedules.into_iter().map(|it| (it.name.to_string(), it.cadence)).collect()
    }

    fn names(&self) -> Vec<String> {
        self.schedules().into_iter().map(|(name, _)| name).collect()
    }

    fn channels(&self) -> Vec<String> {
        let alerting = self.reloader.alerting();
        let alerting = alerting.borrow();
        alerting.channels.iter().map(|channel| channel.name.clone()).collect()
    }

    async fn incidents(&self) -> Vec<Incident> {
        self.db.incidents(IncidentFilter::All, 100).await.unwrap()
    }

    async fn n_news(&self) -> usize {
        let mut n_news = 0;
        for incident in self.incidents().await {
            n_news += self.db.events_of(incident.id).await.unwrap().len();
        }
        n_news
    }
}

fn location(folder: &std::path::Path) -> Location {
    Location { config: None, cwd: folder.to_owned(), zones: TimeZones::built_in() }
}

fn reloader(
    folder: &tempfile::TempDir,
    zones: TimeZones,
    db: &GuardDb,
    clock: &Arc<SimClock>,
) -> Reloader {
    let location = Location { config: None, cwd: folder.path().to_owned(), zones };
    let last_good = LastGood(db.good_files().unwrap());
    let usable = usable(&location, &BTreeMap::new(), &last_good).unwrap();
    let files = Files { location, process: BTreeMap::new() };
    Reloader::new(files, usable, db.clone(), clock.clone())
}

#[tokio::test]
async fn one_broken_file_leaves_its_old_version_in_place_and_the_others_load() {
    let mut it = Reloading::of(&[
        ("schedules/a.toml", &command("0 * * * *")),
        ("schedules/b.toml", &command("0 * * * *")),
    ]);
    it.write("schedules/a.toml", BROKEN);
    it.write("schedules/b.toml", &command("30 * * * *"));
    it.write("schedules/c.toml", &command("5 * * * *"));
    it.write("schedules/new-and-broken.toml", BROKEN);
    assert_eq!(it.look(Look::Everything).await, Looked::Read);
    let cron = |text: &str| Cadence::Cron(text.to_owned());
    let expected = [("a", "0 * * * *"), ("b", "30 * * * *"), ("c", "5 * * * *")]
        .map(|(n, c)| (n.into(), cron(c)));
    assert_eq!(it.schedules(), expected);
    let incidents = it.incidents().await;
    let keys: Vec<&str> = incidents.iter().map(|incident| incident.key.as_str()).collect();
    assert_eq!(keys, ["prod/new-and-broken/configuration_broken", "prod/a/configuration_broken"]);
    let news = it.db.opening_of(incidents[1].id).await.unwrap().unwrap();
    assert_eq!(news.facts.provider.as_deref(), Some("schedules/a.toml"));
    let detail = news.facts.detail.clone().unwrap();
    assert!(detail.starts_with("schedules/a.toml:2: time_bix: "), "{detail}");
}

#[tokio::test]
async fn a_broken_file_is_told_once_and_so_is_that_it_is_right_again() {
    let mut it = Reloading::of(&[("schedules/a.toml", &command("0 * * * *"))]);
    it.write("schedules/a.toml", BROKEN);
    for _ in 0..5 {
        it.look(Look::Everything).await;
    }
    assert_eq!(it.n_news().await, 1);
    // Broken otherwise is no news.
    it.write("schedules/a.toml", "cron = \"0 25 * * *\"\n[job]\nkind = \"review\"\n");
    it.look(Look::Everything).await;
    assert_eq!(it.n_news().await, 1);
    it.write("schedules/a.toml", &command("15 * * * *"));
    it.look(Look::Everything).await;
    it.look(Look::Everything).await;
    assert_eq!(it.n_news().await, 2);
    let incident = &it.incidents().await[0];
    assert_eq!(
        (incident.kind, incident.state),
        (IncidentKind::ConfigurationBroken, IncidentState::Resolved)
    );
    assert_eq!(it.schedules(), [("a".to_owned(), Cadence::Cron("15 * * * *".into()))]);
}

#[tokio::test]
async fn a_file_is_read_when_it_has_changed_and_been_left_alone() {
    let mut it = Reloading::of(&[("schedules/a.toml", &command("0 * * * *"))]);
    assert_eq!(it.look(Look::Changed).await, Looked::Unchanged);
    it.write("schedules/b.toml", &command("0 * * * *"));
    assert_eq!(it.look(Look::Changed).await, Looked::Unchanged, "it may still be written");
    assert_eq!(it.look(Look::Changed).await, Looked::Read);
    assert_eq!(it.names(), ["a", "b"]);
    assert_eq!(it.look(Look::Changed).await, Looked::Unchanged);
}

#[tokio::test]
async fn what_is_removed_or_switched_off_is_gone_also_if_it_is_broken() {
    let mut it = Reloading::of(&[
        ("schedules/a.toml", &command("0 * * * *")),
        ("schedules/b.toml", &command("0 * * * *")),
        ("schedules/c.toml", &command("0 * * * *")),
    ]);
    it.remove("schedules/a.toml");
    it.write("schedules/b.toml", &format!("enabled = false\n{BROKEN}"));
    it.look(Look::Everything).await;
    assert_eq!(it.names(), ["c"]);
}

#[tokio::test]
async fn channels_change_too_and_a_broken_one_stays_as_it_was() {
    let mut it = Reloading::of(&[
        ("schedules/a.toml", &command("0 * * * *")),
        ("alerts/one.toml", CONSOLE),
        ("alerts/two.toml", CONSOLE),
    ]);
    let mut alerting = it.reloader.alerting();
    it.write("alerts/one.toml", "kind = \"consoles\"\n");
    it.write("alerts/three.toml", CONSOLE);
    it.remove("alerts/two.toml");
    it.look(Look::Everything).await;
    assert_eq!(it.channels(), ["one", "three"]);
    assert!(alerting.has_changed().unwrap());
    alerting.borrow_and_update();
    let incident = &it.incidents().await[0];
    assert_eq!(incident.key, "prod/-/configuration_broken");
    it.look(Look::Everything).await;
    assert!(!alerting.has_changed().unwrap(), "nothing changed");
}

#[tokio::test]
async fn a_restart_with_right_files_ends_what_an_earlier_daemon_told() {
    let mut it = Reloading::of(&[("schedules/a.toml", &command("0 * * * *"))]);
    it.write("schedules/a.toml", BROKEN);
    it.look(Look::Everything).await;
    it.write("schedules/a.toml", &command("0 * * * *"));
    it.reloader = reloader(&it.folder, TimeZones::built_in(), &it.db, &it.clock);
    it.look(Look::Changed).await;
    assert_eq!(it.incidents().await[0].state, IncidentState::Resolved);
    assert_eq!(it.n_news().await, 2);
}

impl Reloading {
    /// The daemon ends and another one starts.
    async fn restart(&mut self) {
        self.reloader = reloader(&self.folder, TimeZones::built_in(), &self.db, &self.clock);
        self.look(Look::Changed).await;
    }

    async fn open_keys(&self) -> Vec<String> {
        let incidents = self.db.incidents(IncidentFilter::Open, 100).await.unwrap();
        let mut keys: Vec<String> = incidents.into_iter().map(|incident| incident.key).collect();
        keys.sort();
        keys
    }
}

type Break = fn(&std::path::Path);

/// What a slip of the hand, a half-written file or a wrong right makes of a file.
fn ways_to_break() -> Vec<(&'static str, Break)> {
    vec![
        ("no TOML", |path| std::fs::write(path, "cron = \"0 *").unwrap()),
        ("an unknown key", |path| std::fs::write(path, BROKEN).unwrap()),
        ("no UTF-8", |path| std::fs::write(path, b"kind = \"cons\xff\xfe\"\n").unwrap()),
        ("empty", |path| std::fs::write(path, "").unwrap()),
        ("a link that leads nowhere", |path| {
            std::fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/nowhere/at-all.toml", path).unwrap();
        }),
        ("a folder", |path| {
            std::fs::remove_file(path).unwrap();
            std::fs::create_dir(path).unwrap();
        }),
        ("a variable that is not set", |path| {
            let text = std::fs::read_to_string(path).unwrap();
            std::fs::write(path, text + "\n[more]\nx = \"${NOT_SET}\"\n").unwrap();
        }),
    ]
}

#[tokio::test]
async fn however_a_file_is_broken_a_restart_goes_on_with_its_last_good_version_and_says_so_once() {
    for (how, break_it) in ways_to_break() {
        let mut it = Reloading::of(&[
            ("schedules/a.toml", &command("0 * * * *")),
            ("schedules/b.toml", &command("30 * * * *")),
            ("schedules/off.toml", &format!("enabled = false\n{}", command("9 * * * *"))),
            ("alerts/one.toml", CONSOLE),
            ("alerts/off.toml", &format!("enabled = false\n{CONSOLE}")),
        ]);
        it.look(Look::Changed).await;
        for name in ["schedules/a", "schedules/off", "alerts/one", "alerts/off"] {
            break_it(&it.folder.path().join(format!("{name}.toml")));
        }
        for _ in 0..3 {
            it.restart().await;
            assert_eq!(it.names(), ["a", "b"], "{how}");
            assert_eq!(it.channels(), ["one"], "{how}");
        }
        let key = |of: &str| format!("prod/{of}/configuration_broken");
        assert_eq!(it.open_keys().await, [key("-"), key("a"), key("off")], "{how}");
        assert_eq!(it.n_news().await, 3, "{how}: once each");
    }
}

#[tokio::test]
async fn a_file_that_never_was_right_brings_neither_the_built_in_schedule_nor_a_variables_channel()
{
    for (how, break_it) in ways_to_break() {
        let folder = folder(&[
            ("schedules/a.toml", &command("0 * * * *")),
            ("alerts/team.toml", "kind = \"slack\"\nwebhook_url = \"${SLACK_WEBHOOK_URL}\"\n"),
            (".env", "SLACK_WEBHOOK_URL=https://hooks.slack.com/services/fake\n"),
        ]);
        break_it(&folder.path().join("schedules/a.toml"));
        let location = location(folder.path());
        let read = || usable(&location, &BTreeMap::new(), &LastGood::default()).unwrap();
        assert!(read().config.schedules.is_empty(), "{how}");
        // Of a file that can be read it is known which variables it uses.
        let team = folder.path().join("alerts/team.toml");
        if matches!(how, "a link that leads nowhere" | "a folder") {
            break_it(&team);
        } else {
            std::fs::write(team, "kind = \"slack\"\nwebhook_url = \"${SLACK_WEBHOOK_URL}\n")
                .unwrap();
        }
        assert!(read().config.channels.is_empty(), "{how}");
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_read_keeps_what_was_there_and_starts_nothing() {
    for name in ["schedules", "alerts"] {
        let mut it = Reloading::of(&[
            ("schedules/a.toml", &command("0 * * * *")),
            ("alerts/one.toml", CONSOLE),
        ]);
        it.look(Look::Changed).await;
        let path = it.folder.path().join(name);
        std::fs::remove_dir_all(&path).unwrap();
        std::fs::write(&path, "a file in a folder's place").unwrap();
        it.look(Look::Everything).await;
        for _ in 0..2 {
            assert_eq!(
                (it.names(), it.channels()),
                (vec!["a".into()], vec!["one".into()]),
                "{name}"
            );
            it.restart().await;
        }
        assert_eq!(it.open_keys().await, ["prod/-/configuration_broken"], "{name}");
        let nothing = folder(&[(name, "a file in a folder's place")]);
        let process = BTreeMap::from([(
            "SLACK_WEBHOOK_URL".to_owned(),
            "https://hooks.slack.com/services/fake".to_owned(),
        )]);
        let location = location(nothing.path());
        let config = usable(&location, &process, &LastGood::default()).unwrap().config;
        assert!(name == "alerts" || config.schedules.is_empty());
        assert!(name == "schedules" || config.channels.is_empty());
    }
}

#[tokio::test]
async fn what_a_file_says_of_another_one_stops_neither() {
    let mut it = Reloading::of(&[
        ("schedules/a.toml", &format!("notify = [\"gone\"]\n{}", command("0 * * * *"))),
        ("alerts/one.toml", &format!("fallback = \"gone\"\n{CONSOLE}")),
        ("alerts/two.toml", &format!("fallback = \"three\"\n{CONSOLE}")),
        ("alerts/three.toml", &format!("fallback = \"two\"\n{CONSOLE}")),
    ]);
    it.look(Look::Changed).await;
    assert_eq!(it.names(), ["a"]);
    assert_eq!(it.channels(), ["one", "three", "two"]);
    let alerting = it.reloader.alerting();
    let channels = alerting.borrow().channels.clone();
    assert!(channels.iter().all(|channel| channel.fallback.is_none()), "{channels:?}");
    let key = |of: &str| format!("prod/{of}/configuration_broken");
    assert_eq!(it.open_keys().await, [key("-"), key("a")]);
}

#[tokio::test]
async fn a_new_file_that_is_broken_leaves_the_built_in_schedule_and_a_variables_channel_running() {
    let slack = "SLACK_WEBHOOK_URL=https://hooks.slack.com/services/fake\n";
    let mut it =
        Reloading::of(&[(".env", slack), ("schedules/readme.md", ""), ("alerts/x.md", "")]);
    assert_eq!((it.names(), it.channels()), (vec!["image-review".into()], vec!["slack".into()]));
    it.write("schedules/new.toml", BROKEN);
    it.write("alerts/team.toml", "kind = \"slack\"\nwebhook_url = \"${SLACK_WEBHOOK_URL}\nx");
    it.look(Look::Everything).await;
    assert_eq!((it.names(), it.channels()), (vec!["image-review".into()], vec!["slack".into()]));
    it.write("schedules/new.toml", &command("0 * * * *"));
    it.look(Look::Everything).await;
    assert_eq!(it.names(), ["new"]);
}

#[tokio::test]
async fn what_is_remembered_of_a_file_is_its_text_without_the_values_of_variables() {
    let mut it = Reloading::of(&[
        ("alerts/team.toml", "kind = \"slack\"\nwebhook_url = \"${HOOK}\"\n"),
        (".env", "HOOK=https://hooks.slack.com/services/secret-part\n"),
    ]);
    it.look(Look::Changed).await;
    let good = it.db.good_files().unwrap();
    assert!(good["alerts/team.toml"].contains("${HOOK}"), "{good:?}");
    assert!(!format!("{good:?}").contains("secret-part"));
    it.remove("alerts/team.toml");
    it.look(Look::Everything).await;
    assert!(it.db.good_files().unwrap().is_empty(), "a file that is removed is forgotten");
}
