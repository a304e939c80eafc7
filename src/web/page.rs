//! The dashboard: the overall state, open incidents, schedules, recent runs.
//!
//! One page, made on the server, that needs no script and prints well. The worst comes first.
//! Invariant: every value in it went through [`text`].

use std::fmt::Write;

use chrono::{DateTime, TimeDelta, Timelike, Utc};

use super::html::text;
use super::status::{self, Condition, LoopPulse, PulseState, ScheduleStatus, Status};
use super::strip::{GLYPHS, glyph, look, say, strip};
use crate::duration::spoken;
use crate::storage::StorageError;
use crate::timezone::Zone;
use crate::watch::history::SlotRow;
use crate::watch::{Incident, IncidentState, Severity, words};

/// In seconds.
const REFRESH_SECONDS: u32 = 30;

/// The whole page.
pub(super) fn dashboard(status: &Status) -> String {
    let mut out = String::with_capacity(64 * 1024);
    head(&mut out, &status.instance, &headline(status).title);
    banner(&mut out, status);
    for warning in &status.warnings {
        let _ = write!(out, "<p class=\"note warn\">{}</p>", text(warning));
    }
    incidents(&mut out, status);
    schedules(&mut out, status);
    recent(&mut out, status);
    itself(&mut out, status);
    let _ = write!(
        out,
        "</main><footer><p>Lookout {} · as of {} UTC · refreshes every {REFRESH_SECONDS} s · \
         <a href=\"/api/status\">the same as JSON</a></p></footer></body></html>",
        text(status.version),
        status.at.format("%Y-%m-%d %H:%M:%S"),
    );
    out
}

/// What is shown when the database can't be read.
pub(super) fn broken(instance: &str, error: &StorageError, loops: &[LoopPulse]) -> String {
    let mut out = String::new();
    head(&mut out, instance, "can't read its state");
    let _ = write!(
        out,
        "<section class=\"banner unwell\">{}<div><h2>Lookout can't read its state</h2>\
         <p>{}</p></div></section>",
        glyph("failed"),
        text(error)
    );
    loop_list(&mut out, loops, None);
    out.push_str("</main></body></html>");
    out
}

fn head(out: &mut String, instance: &str, state: &str) {
    let _ = write!(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <meta http-equiv=\"refresh\" content=\"{REFRESH_SECONDS}\">\
         <title>{}: {}</title><link rel=\"stylesheet\" href=\"/style.css\">\
         <link rel=\"icon\" href=\"/icon.svg\" type=\"image/svg+xml\"></head><body>{GLYPHS}\
         <header><h1>Lookout</h1><p class=\"instance\">{}</p></header><main>",
        text(instance),
        text(state),
        text(instance)
    );
}

/// What stands at the top: the worst that is true.
struct Headline {
    title: String,
    class: &'static str,
    shape: &'static str,
}

fn headline(status: &Status) -> Headline {
    let of = |title: String, class, shape| Headline { title, class, shape };
    let n_paused = status.schedules.iter().filter(|schedule| schedule.paused.is_some()).count();
    match status.condition {
        Condition::Unwell => {
            of("Lookout itself is not working properly".to_owned(), "unwell", "failed")
        }
        Condition::Trouble => {
            let is_critical = |incident: &Incident| {
                incident.severity == Severity::Critical && incident.state == IncidentState::Open
            };
            let (class, shape) = if status.incidents.iter().any(is_critical) {
                ("unwell", "failed")
            } else {
                ("trouble", "no_signal")
            };
            of(open_incidents(&status.incidents), class, shape)
        }
        Condition::Well if status.channels.is_empty() => {
            of("Nobody is notified of failures".to_owned(), "trouble", "no_signal")
        }
        Condition::Well if status.schedules.is_empty() => {
            of("No schedule is enabled".to_owned(), "trouble", "no_signal")
        }
        Condition::Well if n_paused > 0 && n_paused == status.schedules.len() => {
            let title = if n_paused == 1 { "Paused" } else { "All schedules are paused" };
            of(title.to_owned(), "trouble", "stalled")
        }
        Condition::Well if n_paused > 0 => {
            let noun = if n_paused == 1 { "schedule" } else { "schedules" };
            of(format!("{n_paused} {noun} paused"), "trouble", "stalled")
        }
        Condition::Well => of("All is well".to_owned(), "well", "completed"),
    }
}

/// `2 open incidents (1 acknowledged)`.
fn open_incidents(incidents: &[Incident]) -> String {
    let n_acked = incidents.iter().filter(|it| it.state == IncidentState::Acked).count();
    let noun = if incidents.len() == 1 { "incident" } else { "incidents" };
    let acked = match n_acked {
        0 => String::new(),
        n if n == incidents.len() => " (acknowledged)".to_owned(),
        n => format!(" ({n} acknowledged)"),
    };
    format!("{} open {noun}{acked}", incidents.len())
}

fn banner(out: &mut String, status: &Status) {
    let Headline { title, class, shape } = headline(status);
    let mut parts = Vec::new();
    if status.condition == Condition::Unwell && !status.incidents.is_empty() {
        parts.push(open_incidents(&status.incidents));
    }
    let n_running = status.schedules.iter().filter(|s| s.running.is_some()).count();
    if n_running > 0 {
        parts.push(format!("{n_running} running now"));
    }
    let next = status.schedules.iter().filter_map(|s| s.next_due_at).min();
    if let Some(next) = next {
        parts.push(format!("next run {}", relative(next, status.at)));
    }
    for pulse in status.loops.iter().filter(|pulse| !pulse.is_well()) {
        parts.push(format!("{}: {}", pulse.name, pulse.doing));
    }
    let _ = write!(
        out,
        "<section class=\"banner {class}\">{}<div><h2>{}</h2><p>{}</p></div></section>",
        glyph(shape),
        text(title),
        text(parts.join(" · "))
    );
}

fn incidents(out: &mut String, status: &Status) {
    if status.incidents.is_empty() {
        return;
    }
    out.push_str("<section aria-labelledby=\"open\"><h2 id=\"open\">Open incidents</h2><ul class=\"incidents\">");
    let utc = Zone::utc();
    for incident in &status.incidents {
        let zone = zone_of(status, incident).unwrap_or(&utc);
        let _ = write!(
            out,
            "<li class=\"s-{severity}\"><p class=\"what\"><span class=\"tag\">{severity}</span> \
             <strong>{what}</strong>{whose}</p><p class=\"quiet\">#{id} · opened {since}{runs}{acked}</p></li>",
            severity = incident.severity.as_str(),
            what = text(words::incident(incident.kind)),
            whose = whose(incident),
            id = incident.id,
            since = moment(incident.opened_at, zone, status.at),
            runs = match incident.runs_affected {
                0 => String::new(),
                1 => " · 1 run".to_owned(),
                n => format!(" · {n} runs"),
            },
            acked = match incident.state {
                IncidentState::Acked => " · acknowledged",
                IncidentState::Open | IncidentState::Resolved => "",
            },
        );
    }
    out.push_str("</ul></section>");
}

fn whose(incident: &Incident) -> String {
    let schedule = incident.schedule.as_deref();
    schedule.map(|name| format!(" · {}", text(name))).unwrap_or_default()
}

fn zone_of<'a>(status: &'a Status, incident: &Incident) -> Option<&'a Zone> {
    let name = incident.schedule.as_deref();
    let mut schedules = status.schedules.iter();
    Some(&schedules.find(|s| Some(s.schedule.as_str()) == name)?.settings.timezone)
}

fn schedules(out: &mut String, status: &Status) {
    if status.schedules.is_empty() {
        return;
    }
    out.push_str("<section aria-labelledby=\"schedules\"><h2 id=\"schedules\">Schedules</h2>");
    for schedule in &status.schedules {
        one_schedule(out, schedule, status.at);
    }
    out.push_str("</section>");
}

fn one_schedule(out: &mut String, schedule: &ScheduleStatus, now: DateTime<Utc>) {
    let zone = &schedule.settings.timezone;
    let cadence = schedule
        .cron
        .as_ref()
        .map_or_else(|| "continuous".to_owned(), |cron| format!("{cron} · {}", schedule.timezone));
    let _ = write!(
        out,
        "<article class=\"schedule\"><h3>{}</h3><p class=\"quiet\">{} · box {}</p><dl>",
        text(&schedule.schedule),
        text(cadence),
        spoken(schedule.settings.time_box)
    );
    if let Some(running) = &schedule.running {
        fact(out, "Now", &now_running(running, now));
    }
    if let Some(pause) = &schedule.paused {
        let until = pause.until.map(|until| format!(", ends {}", moment(until, zone, now)));
        let words = format!("{}{}", text(&pause.reason), until.unwrap_or_default());
        fact(out, "Paused", &words);
    } else if let Some(reason) = &schedule.maintenance {
        fact(out, "Maintenance", &text(reason).to_string());
    }
    if let Some(next) = schedule.next_due_at {
        fact(out, "Next run", &moment(next, zone, now));
    }
    if let Some(last) = &schedule.last {
        let took = status::took(last).filter(|took| !took.is_zero());
        let took = took.map(|took| format!(", took {}", spoken(took))).unwrap_or_default();
        let words = format!(
            "{}{} {}{took}",
            glyph(look(last)),
            text(say(last)),
            relative(last.due_at, now)
        );
        fact(out, "Last run", &words);
    }
    if let Some(backlog) = schedule.backlog {
        fact(out, "Still waiting", &number(backlog));
    }
    out.push_str("</dl>");
    strip(out, &schedule.schedule, &schedule.strip, zone);
    out.push_str("</article>");
}

fn now_running(slot: &SlotRow, now: DateTime<Utc>) -> String {
    let since = slot.started_at.map_or_else(
        || "is being started".to_owned(),
        |at| format!("runs since {}", spoken((now - at).to_std().unwrap_or_default())),
    );
    let box_ends = status::box_ends_at(slot).map_or_else(String::new, |at| {
        format!(", box {} {}", if at > now { "ends" } else { "ended" }, relative(at, now))
    });
    format!("{}{since}{box_ends}", glyph("running"))
}

/// A row of a description list; `value` is HTML.
fn fact(out: &mut String, name: &str, value: &str) {
    let _ = write!(out, "<div><dt>{}</dt><dd>{value}</dd></div>", text(name));
}

fn recent(out: &mut String, status: &Status) {
    if status.recent.is_empty() {
        return;
    }
    out.push_str(
        "<section aria-labelledby=\"runs\"><h2 id=\"runs\">Last runs</h2><div class=\"wide\">\
         <table><thead><tr><th scope=\"col\">Due</th><th scope=\"col\">Schedule</th>\
         <th scope=\"col\">Result</th><th scope=\"col\" class=\"n\">Took</th>\
         <th scope=\"col\">Work</th><th scope=\"col\">Why</th></tr></thead><tbody>",
    );
    for slot in &status.recent {
        let zone = &slot.configuration.timezone;
        let took = status::took(slot).map(spoken).unwrap_or_default();
        let _ = write!(
            out,
            "<tr><td class=\"due\">{due}<span class=\"quiet\">{local}</span></td><td class=\"whose\">{schedule}</td>\
             <td class=\"result\">{glyph}{result}</td><td class=\"n\">{took}</td><td class=\"work\">{work}</td>\
             <td class=\"why\">{why}</td></tr>",
            due = slot.due_at.format(clock_format(slot.due_at)),
            local = if zone.is_utc() {
                relative(slot.due_at, status.at)
            } else {
                slot.due_at.with_timezone(zone).format("%a %H:%M %Z").to_string()
            },
            schedule = text(&slot.schedule),
            glyph = glyph(look(slot)),
            result = text(say(slot)),
            work = text(work(slot)),
            why = why(slot),
        );
    }
    out.push_str("</tbody></table></div></section>");
}

/// What the run got done, as far as it said so.
pub(super) fn work(slot: &SlotRow) -> String {
    let counts = &slot.summary.counts;
    let mut parts: Vec<String> = [
        ("succeeded", "done"),
        ("errored", "in error"),
        ("blocked", "blocked"),
        ("returned", "returned to the queue"),
        ("remaining", "left"),
    ]
    .into_iter()
    .filter_map(|(name, word)| Some((*counts.get(name)?, name, word)))
    .filter(|(count, name, _)| *count > 0 || *name == "succeeded")
    .map(|(count, _, word)| format!("{} {word}", number(count)))
    .collect();
    if let (true, Some(done)) = (parts.is_empty(), slot.summary.done) {
        let total = slot.summary.total.map(|total| format!(" of {}", number(total)));
        let unit = slot.summary.unit.as_deref().unwrap_or("items");
        parts.push(format!("{}{} {unit}", number(done), total.unwrap_or_default()));
    }
    if let Some(usd) = slot.summary.usd.filter(|usd| *usd > 0.0) {
        parts.push(format!("${usd:.2}"));
    }
    parts.join(", ")
}

/// Reason and findings; a run that went well needs no reason.
fn why(slot: &SlotRow) -> String {
    let is_good = slot.verdict == Some(crate::watch::Verdict::Completed);
    let reason = slot.reason.as_deref().filter(|_| !is_good);
    let lines: Vec<String> = reason
        .into_iter()
        .chain(slot.findings.iter().map(String::as_str))
        .map(|line| text(line).to_string())
        .collect();
    lines.join("<br>")
}

fn itself(out: &mut String, status: &Status) {
    out.push_str("<section aria-labelledby=\"itself\"><h2 id=\"itself\">Lookout itself</h2><div class=\"two\">");
    loop_list(out, &status.loops, Some(status.at));
    out.push_str("<div><h3>Channels</h3>");
    if status.channels.is_empty() {
        out.push_str("<p>None. Nobody is notified.</p>");
    } else {
        out.push_str("<ul class=\"plain\">");
        for channel in &status.channels {
            let fallback = channel.fallback.as_deref().map(|name| format!(", fallback {name}"));
            let _ = write!(
                out,
                "<li><strong>{}</strong> <span class=\"quiet\">{}, {} and above{}</span></li>",
                text(&channel.channel),
                text(channel.kind),
                channel.severity.as_str(),
                text(fallback.unwrap_or_default())
            );
        }
        out.push_str("</ul>");
    }
    out.push_str("</div></div></section>");
}

fn loop_list(out: &mut String, loops: &[LoopPulse], now: Option<DateTime<Utc>>) {
    out.push_str("<div><h3>Loops</h3><ul class=\"plain\">");
    for pulse in loops {
        let shape = match pulse.state {
            PulseState::Alive => "completed",
            PulseState::Failing => "no_signal",
            PulseState::Dead => "failed",
        };
        let last = match (pulse.last_at, now) {
            (Some(at), Some(now)) => format!(", {}", relative(at, now)),
            (Some(at), None) => format!(", last at {} UTC", at.format("%H:%M:%S")),
            (None, _) => String::new(),
        };
        let _ = write!(
            out,
            "<li>{}<strong>{}</strong> <span class=\"quiet\">{}{last}</span></li>",
            glyph(shape),
            text(&pulse.name),
            text(&pulse.doing)
        );
    }
    out.push_str("</ul></div>");
}

/// `in 12 min · 12:00 UTC (Sun 13:00 CET)`; safe as HTML.
fn moment(at: DateTime<Utc>, zone: &Zone, now: DateTime<Utc>) -> String {
    let is_near = (at - now).abs() < TimeDelta::hours(20);
    let utc = at.format(if is_near { "%H:%M UTC" } else { clock_format(at) });
    let local = if zone.is_utc() {
        String::new()
    } else {
        format!(" ({})", at.with_timezone(zone).format("%a %H:%M %Z"))
    };
    format!(
        "{} <span class=\"quiet\"><time datetime=\"{}\">{utc}{local}</time></span>",
        relative(at, now),
        at.format("%Y-%m-%dT%H:%M:%SZ")
    )
}

/// Seconds only where there are any: most schedules have none.
fn clock_format(at: DateTime<Utc>) -> &'static str {
    if at.second() == 0 { "%-d %b %H:%M UTC" } else { "%-d %b %H:%M:%S UTC" }
}

fn relative(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let ahead = at - now;
    if ahead.abs() < TimeDelta::seconds(1) {
        return "now".to_owned();
    }
    let length = spoken(ahead.abs().to_std().unwrap_or_default());
    if ahead > TimeDelta::zero() { format!("in {length}") } else { format!("{length} ago") }
}

/// `1,240`.
fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
