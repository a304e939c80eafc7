//! A message as the JSON of a Slack incoming webhook.
//!
//! Texts from outside stand in `rich_text_preformatted`, which Slack shows literally; everything
//! in `mrkdwn` is escaped. Limits: header 150 and section 3000 characters (Slack's documentation),
//! about 9,600 over all blocks (slackapi/bolt-js#2867), of which we use less.
//! Invariant: no text is empty, none is cut inside an entity, and `text` is always there.

use serde_json::{Value, json};

use super::{Message, words};

const HEADER: usize = 150;
const SECTION: usize = 2800;
/// All quoted texts together.
const EVIDENCE: usize = 3000;
/// Slack takes ten fields of 2000; ours are short.
const FIELDS: usize = 10;
const FIELD: usize = 250;
const CONTEXT: usize = 600;
/// The notification's text; above 4,000 Slack may cut (changelog 2018-04).
const TEXT: usize = 3000;

/// Header, coloured body, footer.
#[must_use]
pub fn slack(message: &Message) -> Value {
    let header = format!("{} · {}", message.state.trim_end_matches(','), message.what);
    let mut body = Vec::new();
    // 1,800 for the lead leaves room for everything else below 8,000 in all.
    let mut section = |text: String| {
        if !text.is_empty() {
            body.push(json!({"type": "section", "text": mrkdwn(text)}));
        }
    };
    section(escaped(&message.lead.join(" "), 1800));
    section(steps(message));
    if let Some(fields) = fields(message) {
        body.push(fields);
    }
    let mut room = EVIDENCE;
    for evidence in &message.evidence {
        let text = words::cut(&evidence.text, room);
        room = room.saturating_sub(text.chars().count());
        if text.trim().is_empty() {
            continue;
        }
        body.push(json!({"type": "section", "text": mrkdwn(format!("*{}*", evidence.label))}));
        body.push(json!({"type": "rich_text", "elements": [
            {"type": "rich_text_preformatted", "elements": [{"type": "text", "text": text}]}
        ]}));
    }
    let notes = message
        .annotations
        .iter()
        .map(super::Annotation::in_words)
        .chain(message.by_itself.clone());
    for note in notes {
        body.push(context(&note));
    }
    body.push(context(&footer(message)));
    json!({
        "text": escaped(&message.headline(), TEXT),
        "unfurl_links": false,
        "blocks": [{"type": "header", "text": {
            "type": "plain_text", "text": words::cut(&words::sentence(&header), HEADER), "emoji": false
        }}],
        "attachments": [{
            "color": message.tone.colour(),
            "fallback": escaped(&message.headline(), TEXT),
            "blocks": body,
        }],
    })
}

/// The same without blocks: for a Slack that refuses ours.
#[must_use]
pub fn slack_as_text(message: &Message) -> Value {
    json!({"text": escaped(&super::plain(message), TEXT), "unfurl_links": false})
}

fn steps(message: &Message) -> String {
    if message.steps.is_empty() {
        return String::new();
    }
    let mut text = "*Do now*".to_owned();
    for (index, step) in message.steps.iter().enumerate() {
        text.push_str(&format!("\n{}. {}", index + 1, escaped(&step.text, 300)));
        if let Some(command) = &step.command {
            text.push_str(&format!(" `{}`", escaped(&command.replace('`', "'"), 300)));
        }
    }
    // Three steps of 600 at most, so this never cuts; it guards against a fourth.
    if text.chars().count() > SECTION { escaped(&message.steps[0].text, 300) } else { text }
}

fn fields(message: &Message) -> Option<Value> {
    let fields: Vec<Value> = message
        .facts
        .iter()
        .take(FIELDS)
        .map(|(label, value)| mrkdwn(format!("*{label}*\n{}", escaped(value, FIELD))))
        .collect();
    (!fields.is_empty()).then(|| json!({"type": "section", "fields": fields}))
}

fn footer(message: &Message) -> String {
    let mut footer = format!("{} · {}", message.instance, message.footer().join(" · "));
    if let Some(command) = message.ack_command() {
        footer.push_str(&format!(" · no more reminders: {command}"));
    }
    footer
}

fn context(text: &str) -> Value {
    json!({"type": "context", "elements": [mrkdwn(escaped(text, CONTEXT))]})
}

/// `verbatim` keeps Slack from making links of what looks like one.
fn mrkdwn(text: String) -> Value {
    json!({"type": "mrkdwn", "text": text, "verbatim": true})
}

/// Escapes the three characters that Slack reads (`&`, `<`, `>`) and keeps the result within
/// `most` characters without cutting inside an entity.
fn escaped(text: &str, most: usize) -> String {
    let mut out = String::new();
    let mut n_chars = 0;
    for c in text.chars() {
        let mut buffer = [0; 4];
        let piece = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            c => c.encode_utf8(&mut buffer),
        };
        let length = piece.chars().count();
        // One place is kept for the ellipsis.
        if n_chars + length > most.saturating_sub(1) {
            out.push('…');
            return out;
        }
        n_chars += length;
        out.push_str(piece);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaping_never_cuts_an_entity_and_keeps_the_limit() {
        let long = "&".repeat(3000);
        let text = escaped(&long, SECTION);
        assert!(text.chars().count() <= SECTION);
        assert!(text.ends_with("&amp;…"), "{}", &text[text.len() - 12..]);
        assert_eq!(escaped("<!channel> & co", 100), "&lt;!channel&gt; &amp; co");
        assert_eq!(escaped("ab😀", 10), "ab😀");
    }
}
