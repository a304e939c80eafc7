//! Files that change while the daemon runs: what is right takes effect, what is broken is told once and
//! changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use lookout::app::reload::{Files, Look, Looked, Reloader};
use lookout::clock::Clock;
use lookout::clock::SimClock;
use lookout::config::{Location, load};
use lookout::schedule::{Cadence, Schedule};
use lookout::store::GuardDb;
use lookout::timezone::TimeZones;
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
            n_news += self.db.news_of(incident.id).await.unwrap().len();
        }
        n_news
    }
}

fn reloader(
    folder: &tempfile::TempDir,
    zones: TimeZones,
    db: &GuardDb,
    clock: &Arc<SimClock>,
) -> Reloader {
    let location = Location { config: None, cwd: folder.path().to_owned(), zones };
    let config = load(&location, &BTreeMap::new()).unwrap();
    let files = Files { location, process: BTreeMap::new() };
    Reloader::new(files, config, Arc::new(db.clone()), clock.clone())
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
    let news = it.db.news_of(incidents[1].id).await.unwrap();
    assert_eq!(news[0].facts.provider.as_deref(), Some("schedules/a.toml"));
    let detail = news[0].facts.detail.clone().unwrap();
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
