//! `[service]`: instance, address, state directory.
//!
//! Invariant: an address that others can reach has a token.

use std::net::SocketAddr;

use super::ServiceSettings;
use super::section::Section;
use crate::run::retention::RetentionLimits;
use crate::secret::Secret;

/// Where pages and API listen unless told otherwise.
const BIND: ([u8; 4], u16) = ([127, 0, 0, 1], 8720);

/// Runs at once: reviews hold up to 256 MiB of pictures each, so more than a few would not fit a
/// small machine.
const MAX_RUNNING: u32 = 10;

/// What stays of a schedule's runs: one that fills its log (1.25 MB) every hour keeps two days, an
/// ordinary one more than a year.
const LOGS_PER_SCHEDULE: u64 = 64 * 1024 * 1024;

/// The same for all of them: less than a small machine's disk has left.
const LOGS_IN_ALL: u64 = 1024 * 1024 * 1024;

/// Shorter tokens can be guessed within a day at the rates a small server answers.
const SHORTEST_TOKEN: usize = 16;

/// Reads the section.
pub(super) fn read(section: Section<'_>) -> ServiceSettings {
    let instance = section.text("instance").unwrap_or_else(|| "prod".to_owned());
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if instance.is_empty() || instance.len() > 64 || !instance.chars().all(fits) {
        section.problem(
            "instance",
            format!("\"{instance}\" can't be part of an incident's key"),
            "write 1 to 64 letters, digits, `-`, `_` or `.`",
        );
    }
    let bind = bind(&section);
    let token = token(&section);
    if !bind.ip().is_loopback() && token.is_none() {
        section.problem(
            "bind",
            format!("{bind} can be reached from other machines, and no token is set"),
            "put LOOKOUT_TOKEN=… (16 characters or more) into .env, or bind to 127.0.0.1",
        );
    }
    let hosts = hosts(&section);
    let state_dir = section.path("state_dir").unwrap_or_else(|| section.reader.root.join("state"));
    let max_running = section.integer("max_running", 1..=10_000).unwrap_or(MAX_RUNNING);
    let kept = RetentionLimits {
        per_schedule: section.size("logs_per_schedule").unwrap_or(LOGS_PER_SCHEDULE),
        in_all: section.size("logs_in_all").unwrap_or(LOGS_IN_ALL),
    };
    section.finish();
    ServiceSettings { instance, bind, hosts, token, state_dir, max_running, kept }
}

fn bind(section: &Section<'_>) -> SocketAddr {
    let default = SocketAddr::from(BIND);
    let Some(text) = section.text("bind") else { return default };
    text.parse().unwrap_or_else(|_| {
        section.problem(
            "bind",
            format!("\"{text}\" is not an IP address with a port"),
            "write an IP address and a port, for example \"127.0.0.1:8720\" or \"[::1]:8720\"",
        );
        default
    })
}

/// Names as browsers send them in `Host`, without the port.
fn hosts(section: &Section<'_>) -> Vec<String> {
    let hosts = section.texts("hosts").unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    for host in hosts.iter().filter(|host| host.is_empty() || !host.chars().all(fits)) {
        section.problem(
            "hosts",
            format!("\"{host}\" is not a host name"),
            "write the name alone, as it stands in the address: hosts = [\"lookout.example.com\"]",
        );
    }
    hosts
}

fn token(section: &Section<'_>) -> Option<Secret> {
    let (token, key) = match section.secret_or_file("token") {
        Some(token) => (Some(token), "token"),
        None => (section.reader.variables.get("LOOKOUT_TOKEN").map(Secret::new), "LOOKOUT_TOKEN"),
    };
    let token = token?;
    if token.expose().len() < SHORTEST_TOKEN {
        let place = section.reader.variables.place(key);
        section.reader.problem(
            place,
            key,
            format!("the token is shorter than {SHORTEST_TOKEN} characters"),
            "make one with: openssl rand -hex 24",
        );
    }
    Some(token)
}
