//! A behaviour in use: which rule a call meets.
//!
//! Invariant: the first rule that matches wins; which calls a `share` hits depends on the seed
//! alone.

use std::time::Duration;

use super::{Behaviour, Outcome};

/// What rules look at.
#[derive(Clone, Debug, Default)]
pub(in crate::drill::fake_gemini) struct Call<'a> {
    pub(in crate::drill::fake_gemini) key: &'a str,
    /// Of the first picture as sent.
    pub(in crate::drill::fake_gemini) sha256: Option<&'a str>,
    pub(in crate::drill::fake_gemini) corner: Option<[u8; 3]>,
}

/// A behaviour in use: what of it is used up, and the random numbers.
#[derive(Debug)]
pub(in crate::drill::fake_gemini) struct Active {
    pub(in crate::drill::fake_gemini) behaviour: Behaviour,
    used: Vec<u64>,
    random: fastrand::Rng,
}

impl Active {
    pub(in crate::drill::fake_gemini) fn new(behaviour: Behaviour) -> Self {
        let used = vec![0; behaviour.rules.len()];
        let random = fastrand::Rng::with_seed(behaviour.seed);
        Self { behaviour, used, random }
    }

    /// Latency of the next call.
    pub(in crate::drill::fake_gemini) fn latency(&mut self) -> Duration {
        self.behaviour.latency + self.behaviour.jitter.mul_f64(self.random.f64())
    }

    /// Whether a rule looks at the picture itself, so that it must be decoded first.
    pub(in crate::drill::fake_gemini) fn needs_corner(&self) -> bool {
        self.behaviour.rules.iter().any(|rule| rule.corner.is_some())
    }

    /// What becomes of a call, `elapsed` after the behaviour was set.
    pub(in crate::drill::fake_gemini) fn outcome(
        &mut self,
        elapsed: Duration,
        call: &Call<'_>,
    ) -> Outcome {
        for (rule, used) in self.behaviour.rules.iter().zip(&mut self.used) {
            let begun = elapsed >= rule.after;
            let over = rule.lasts.is_some_and(|lasts| elapsed >= rule.after + lasts);
            let spent = rule.times.is_some_and(|times| *used >= times);
            let meant = rule.key.as_deref().is_none_or(|key| key == call.key)
                && rule.sha256.as_deref().is_none_or(|sha| Some(sha) == call.sha256)
                && rule.corner.is_none_or(|mark| call.corner.is_some_and(|c| mark.is_near(c)));
            if begun
                && !over
                && !spent
                && meant
                && rule.share.is_none_or(|share| self.random.f64() < share)
            {
                *used += 1;
                return rule.outcome.clone();
            }
        }
        Outcome::Answer
    }
}

#[cfg(test)]
mod tests {
    use super::super::Rule;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_rule_holds_for_its_time_and_number_of_calls() {
        let mut active = Active::new(Behaviour {
            rules: vec![
                Rule {
                    after: SECOND,
                    lasts: Some(2 * SECOND),
                    times: Some(2),
                    ..Rule::new(Outcome::HighDemand)
                },
                Rule { key: Some("dead".into()), ..Rule::new(Outcome::KeyInvalid) },
            ],
            ..Behaviour::default()
        });
        let call = Call { key: "alive", ..Call::default() };
        let mut at = |seconds: u32, call: &Call<'_>| active.outcome(SECOND * seconds, call);
        assert_eq!(at(0, &call), Outcome::Answer);
        assert_eq!(at(1, &call), Outcome::HighDemand);
        assert_eq!(at(1, &Call { key: "dead", ..Call::default() }), Outcome::HighDemand);
        assert_eq!(at(2, &call), Outcome::Answer, "used up");
        assert_eq!(at(2, &Call { key: "dead", ..Call::default() }), Outcome::KeyInvalid);
        assert_eq!(at(3, &call), Outcome::Answer, "over");
    }

    #[test]
    fn a_share_is_kept_within_what_chance_allows_and_is_the_same_each_time() {
        let behaviour = Behaviour {
            rules: vec![Rule { share: Some(0.1), ..Rule::new(Outcome::HighDemand) }],
            ..Behaviour::default()
        };
        let count = || {
            let mut active = Active::new(behaviour.clone());
            (0..10_000)
                .filter(|_| active.outcome(SECOND, &Call::default()) == Outcome::HighDemand)
                .count()
        };
        // Ten standard deviations of a binomial with n = 10,000 and p = 0.1 are 300.
        assert!((700..1300).contains(&count()), "{}", count());
        assert_eq!(count(), count());
    }
}
