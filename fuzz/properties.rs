//! What must hold for any bytes at all: for the fuzzers, and for the replay of their corpus.
//!
//! `bash fuzz/run` runs them; `tests/it/review/fuzz_corpus.rs` replays what they found interesting in every
//! test run.

use lookout::review::picture::{cost, probe};
use lookout::review::reviewer::gemini::answer::{Reading, read};
use lookout::review::reviewer::gemini::classifier::classify;
use lookout::review::settings::PictureSettings;

/// A reply of Gemini is never half understood: an answer is one for a second reader, too, and an
/// error has words for people.
pub(super) fn reply(data: &[u8]) {
    let status = 300 + data.first().map_or(0, |first| u16::from(*first));
    let class = classify(status, None, data);
    assert!(!class.message.is_empty() && !class.message.contains('\n'));
    if let (Reading::Answer(answer), _) = read(data) {
        let value: serde_json::Value =
            serde_json::from_slice(data).expect("an answer out of no JSON");
        let parts = value["candidates"][0]["content"]["parts"].as_array().expect("no parts");
        let text: String = parts
            .iter()
            .filter(|part| part["thought"] != true)
            .filter_map(|part| part["text"].as_str())
            .collect();
        let second: serde_json::Value = serde_json::from_str(&text).expect("no object");
        assert_eq!(serde_json::to_value(answer).expect("no value"), second);
    }
}

/// The header of a picture is read without a panic, and never asks for more than the limits allow.
pub(super) fn picture(data: &[u8]) {
    let settings = PictureSettings::default();
    if let Ok(header) = probe(data, &settings) {
        assert!(u64::from(header.width) * u64::from(header.height) <= settings.max_pixels);
        assert!(header.width.max(header.height) <= settings.max_edge);
        assert!(cost(&header, &settings) >= data.len() as u64);
        // 16 bits in four channels twice over, and the shrunk copies.
        let most = data.len() as u64 * 2 + settings.max_pixels * 20;
        assert!(cost(&header, &settings) <= most);
    }
}
