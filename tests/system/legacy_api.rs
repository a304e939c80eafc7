//! The old service's addresses on the daemon: the same answers, each review a process of its own.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use lookout::drill::fake_gemini::{Behaviour, FakeGemini, FakeGeminiSettings, Outcome};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::world::World;

/// A daemon that listens, and its address.
struct Daemon {
    world: World,
    runtime: tokio::runtime::Runtime,
    gemini: Option<FakeGemini>,
    address: String,
}

impl Daemon {
    fn start(behaviour: Behaviour) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let world = World::new();
        // Asked of the system and free again: nobody else takes it within this moment.
        let address = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().to_string()
        };
        let mut daemon = Self { world, runtime, gemini: None, address };
        daemon.change_provider(behaviour);
        std::fs::create_dir_all(daemon.world.path().join("images")).unwrap();
        // Instead of the hourly run that is built in, which would review the rows itself.
        let never =
            "cron = \"0 0 29 2 *\"\nsignal = \"x\"\n[job]\nkind = \"command\"\nargv = [\"true\"]\n";
        daemon.world.write("schedules/never.toml", never);
        daemon.world.start_daemon();
        daemon.world.wait_for("listening", Duration::from_secs(30), |_| {
            TcpStream::connect(&daemon.address).ok()
        });
        daemon
    }

    /// The next review asks another one, as a changed configuration is read by each run anew.
    fn change_provider(&mut self, behaviour: Behaviour) {
        let settings = FakeGeminiSettings { port: 0, behaviour };
        let gemini = self.runtime.block_on(FakeGemini::start(settings)).unwrap();
        self.world.write_settings(&gemini.base_url, "give_up_after = \"10s\"");
        let path = self.world.path().join("lookout.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, text.replace("127.0.0.1:0", &self.address)).unwrap();
        self.gemini = Some(gemini);
    }

    /// Sends a POST and does not wait.
    fn send(&self, path: &str, header: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nHost: {}\r\n{header}", self.address);
        let rest = "Content-Length: 0\r\nConnection: close\r\n\r\n";
        stream.write_all(format!("{head}{rest}").as_bytes()).unwrap();
        stream
    }

    /// Status and body.
    fn post(&self, path: &str) -> (u16, Value) {
        read(self.send(path, ""))
    }

    /// Those that belong to no schedule.
    fn incidents(&self) -> Vec<String> {
        let connection = Connection::open(self.world.path().join("state/guard.db")).unwrap();
        let sql = "SELECT key || ' ' || state FROM incidents WHERE key LIKE 'test/-/%' ORDER BY id";
        let mut select = connection.prepare(sql).unwrap();
        let rows = select.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    fn count(&self, status: &str) -> i64 {
        let path = self.world.path().join("state/records.db");
        let Ok(connection) = Connection::open(path) else { return 0 };
        let sql = "SELECT count(*) FROM midbot_images WHERE review_status = ?1";
        connection.query_row(sql, [status], |row| row.get(0)).unwrap_or(0)
    }
}

fn read(mut stream: TcpStream) -> (u16, Value) {
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}")))
}

#[test]
fn the_old_callers_get_the_old_answers() {
    let mut daemon = Daemon::start(Behaviour::default());
    let none = json!({"message": "No images found with review_status='downloaded'."});
    assert_eq!(daemon.post("/bulk_auto_review"), (200, none));

    // Mistakes in files that are no review's business.
    daemon.world.write("schedules/typo.toml", "cron = \"0 *");
    daemon.world.write("alerts/no-variable.toml", "kind = \"slack\"\nwebhook_url = \"${NO}\"\n");
    daemon.world.add_pictures("a", 5);
    let mut env = std::fs::read_to_string(daemon.world.path().join(".env")).unwrap();
    env.push_str("LIMIT=3\n");
    daemon.world.write(".env", &env);
    let (status, answer) = daemon.post("/bulk_auto_review");
    assert_eq!((status, &answer["message"]), (200, &"Bulk processing completed.".into()));
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 3, "LIMIT is read anew: {answer}");
    for result in results {
        assert_eq!(result["status"], "success", "{result}");
        for key in ["image_id", "categories", "details"] {
            assert!(result[key].is_string(), "{key}: {result}");
        }
    }
    assert_eq!(answer.as_object().unwrap().len(), 2, "as the old service: {answer}");
    assert_eq!((daemon.count("auto_review_success"), daemon.count("downloaded")), (3, 2));

    let (status, answer) = daemon.post("/auto_review/a0004/0");
    assert_eq!((status, &answer["message"]), (200, &"Auto review success".into()), "{answer}");
    assert!(answer["categories"].is_string() && answer["details"].is_string(), "{answer}");
    assert_eq!(daemon.count("downloaded"), 2, "nothing is written");
    let (status, answer) = daemon.post("/auto_review/--help/0");
    assert_eq!(status, 500, "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("no file"), "{answer}");
    assert_eq!(daemon.post("/auto_review/a0004/x").0, 422);

    daemon.change_provider(Behaviour::always(Outcome::KeyInvalid));
    let (status, answer) = daemon.post("/bulk_auto_review");
    let message = answer["message"].as_str().unwrap();
    assert_eq!(status, 200, "{answer}");
    assert!(message.starts_with("Gemini API key validation failed: "), "{answer}");
    assert_eq!((daemon.count("downloaded"), daemon.count("processing")), (2, 0));

    // Its caller takes that for an answer like any other: so people are told, until it works again.
    assert_eq!(daemon.incidents(), ["test/-/credentials_rejected open"]);
    daemon.change_provider(Behaviour::default());
    let (_, answer) = daemon.post("/bulk_auto_review");
    assert_eq!(answer["message"], "Bulk processing completed.", "{answer}");
    assert_eq!(daemon.incidents(), ["test/-/credentials_rejected resolved"]);

    daemon.world.add_pictures("b", 1);
    let path = daemon.world.path().join("lookout.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, format!("{text}[budget]\nusd_per_day = 0.00001\n")).unwrap();
    let (status, answer) = daemon.post("/bulk_auto_review");
    let message = answer["message"].as_str().unwrap();
    assert_eq!(status, 200, "{answer}");
    assert!(message.starts_with("the budget of "), "{answer}");

    for header in ["Origin: https://other.example", "Sec-Fetch-Site: cross-site", "Via: 1.1 proxy"]
    {
        let foreign = daemon.send("/bulk_auto_review", &format!("{header}\r\n"));
        assert_eq!(read(foreign).0, 403, "{header}");
    }
}

#[test]
fn a_caller_that_goes_away_loses_no_row_and_the_next_one_waits_for_its_turn() {
    let daemon = Daemon::start(Behaviour::slow(Duration::from_millis(500)));
    daemon.world.add_pictures("a", 30);
    let caller = daemon.send("/bulk_auto_review", "");
    daemon.world.wait_for("rows in hand", Duration::from_secs(60), |_| {
        (daemon.count("processing") > 0).then_some(())
    });
    drop(caller);
    let (_, answer) = daemon.post("/bulk_auto_review");
    let none = json!({"message": "No images found with review_status='downloaded'."});
    assert_eq!(answer, none, "the first one was let finish before the second began");
    assert_eq!((daemon.count("auto_review_success"), daemon.count("processing")), (30, 0));
}
