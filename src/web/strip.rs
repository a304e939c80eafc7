//! Results as shapes: one glyph a verdict, drawn so that it can be told without its colour.
//!
//! Each glyph stands beside words: visible in tables, for screen readers and as a tooltip in the
//! strip. Invariant: no two results share a shape.

use std::fmt::Write;

use super::html::text;
use crate::timezone::Zone;
use crate::watch::history::{SlotRow, SlotState};
use crate::watch::{Verdict, words};

/// The drawings, once a page; each is used by its name. 16 × 16, strokes in the current colour.
pub(super) const GLYPHS: &str = r#"<svg class="glyphs" aria-hidden="true" focusable="false">
<symbol id="g-completed" viewBox="0 0 16 16"><path d="M3.5 8.5l3 3 6-7"/></symbol>
<symbol id="g-no_signal" viewBox="0 0 16 16"><path d="M5.5 5.8a2.5 2.5 0 1 1 3.7 2.2c-.9.5-1.2.9-1.2 1.8M8 12.4v.3"/></symbol>
<symbol id="g-failed" viewBox="0 0 16 16"><path d="M4 4l8 8M12 4l-8 8"/></symbol>
<symbol id="g-timed_out" viewBox="0 0 16 16"><circle cx="8" cy="8" r="5"/><path d="M8 5v3l2 1.5"/></symbol>
<symbol id="g-stalled" viewBox="0 0 16 16"><path d="M5.5 4v8M10.5 4v8"/></symbol>
<symbol id="g-interrupted" viewBox="0 0 16 16"><path d="M9.5 2.5L5 8.5h5.5L6.5 13.5"/></symbol>
<symbol id="g-missed" viewBox="0 0 16 16"><circle cx="8" cy="8" r="4.8"/><path d="M4.6 11.4l6.8-6.8"/></symbol>
<symbol id="g-skipped" viewBox="0 0 16 16"><path d="M3.5 4.5L8 8l-4.5 3.5M8.5 4.5L13 8l-4.5 3.5"/></symbol>
<symbol id="g-unobserved" viewBox="0 0 16 16"><path d="M3.5 8h.3M7.9 8h.3M12.3 8h.3"/></symbol>
<symbol id="g-running" viewBox="0 0 16 16"><path d="M5.5 3.8l6 4.2-6 4.2z"/></symbol>
<symbol id="g-waiting" viewBox="0 0 16 16"><path d="M5 3h6M5 13h6M5.5 3c0 3 5 3.5 5 5s-5 2-5 5"/></symbol>
</svg>
"#;

/// The name of a slot's glyph and class.
pub(super) fn look(slot: &SlotRow) -> &'static str {
    match (slot.verdict, slot.state) {
        (Some(verdict), _) => verdict.as_str(),
        (None, SlotState::Running) => "running",
        (None, SlotState::Planned | SlotState::Dropped | SlotState::Judged) => "waiting",
    }
}

/// The same in words.
pub(super) fn say(slot: &SlotRow) -> &'static str {
    match (slot.verdict, slot.state) {
        (Some(verdict), _) => words::verdict(verdict),
        (None, SlotState::Running) => "runs now",
        (None, SlotState::Planned) => "about to start",
        (None, SlotState::Dropped | SlotState::Judged) => "about to be judged",
    }
}

/// A glyph beside words.
pub(super) fn glyph(name: &str) -> String {
    format!(
        "<svg class=\"glyph r-{name}\" aria-hidden=\"true\" focusable=\"false\">\
         <use href=\"#g-{name}\"/></svg>"
    )
}

/// The strip of one schedule, oldest first.
pub(super) fn strip(out: &mut String, schedule: &str, slots: &[SlotRow], zone: &Zone) {
    if slots.is_empty() {
        out.push_str("<p class=\"quiet\">No run yet.</p>");
        return;
    }
    let n_bad = slots.iter().filter(|slot| slot.verdict.is_some_and(Verdict::is_bad)).count();
    // Writing to a String can't fail.
    let _ = write!(
        out,
        "<ol class=\"strip\" aria-label=\"The last {} runs of {}, oldest first; {n_bad} went wrong\">",
        slots.len(),
        text(schedule)
    );
    for slot in slots {
        let name = look(slot);
        let local = slot.due_at.with_timezone(zone).format("%a %-d %b %H:%M %Z");
        let reason = slot.reason.as_deref().filter(|_| slot.verdict != Some(Verdict::Completed));
        let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        let label = format!("{local}: {}{reason}", say(slot));
        let _ = write!(
            out,
            "<li class=\"r-{name}\" title=\"{label}\">{glyph}<span class=\"sr\">{label}</span></li>",
            label = text(&label),
            glyph = glyph(name),
        );
    }
    out.push_str("</ol>");
}
