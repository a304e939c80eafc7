//! The review's settings as checked values; `config` makes them.
//!
//! Invariant: durations are positive, lists that must hold something do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::review::record::statuses::Statuses;
use crate::secret::Secret;

/// Everything a review needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct ReviewSettings {
    /// Where `review.db` lives.
    pub state_dir: PathBuf,
    /// Rows.
    pub records: RecordSettings,
    /// Pictures.
    pub images: ImageSettings,
    /// Who looks at them.
    pub reviewer: ReviewerSettings,
    /// How they are prepared.
    pub picture: PictureSettings,
    /// Money.
    pub budget: BudgetSettings,
    /// Records claimed at a time (`LIMIT`).
    pub batch: u32,
}

/// `[records]`.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordSettings {
    /// Where rows are.
    pub kind: RecordKind,
    /// Schema of the table; `None`: the first that PostgREST serves, with Supabase `public`.
    pub schema: Option<String>,
    /// Table name.
    pub table: String,
    /// What it calls the standard columns.
    pub columns: Columns,
    /// What it calls the standard statuses.
    pub statuses: Statuses,
    /// Statuses to pick up.
    pub pick_up: Vec<String>,
}

impl RecordSettings {
    /// Whether a run takes rows of this status (the contract's word).
    #[must_use]
    pub fn picks_up(&self, status: &str) -> bool {
        let word = self.statuses.in_table(status);
        // Written in either's words.
        self.pick_up.iter().any(|picked| self.statuses.in_table(picked) == word)
    }
}

/// Where rows are.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordKind {
    /// The embedded database; filled from the images' folder.
    Sqlite {
        /// File.
        path: PathBuf,
    },
    /// PostgREST.
    Supabase {
        /// `https://PROJECT.supabase.co` (or a gateway).
        url: String,
        /// Secret, service or anon key.
        key: Secret,
    },
}

/// What the user's table calls the columns of docs/legacy-service.md, "Table".
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the standard column of the same name")]
pub struct Columns {
    pub id: String,
    pub job_id: String,
    pub image_index: String,
    pub review_status: String,
    pub auto_review_status: String,
    pub auto_review_details: String,
    pub created_at: String,
    pub updated_at: String,
    pub actual_image_url: String,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            id: "id".into(),
            job_id: "job_id".into(),
            image_index: "image_index".into(),
            review_status: "review_status".into(),
            auto_review_status: "auto_review_status".into(),
            auto_review_details: "auto_review_details".into(),
            created_at: "created_at".into(),
            updated_at: "updated_at".into(),
            actual_image_url: "actual_image_url".into(),
        }
    }
}

/// `[images]`.
#[derive(Clone, Debug, PartialEq)]
pub enum ImageSettings {
    /// A folder on this machine.
    Folder {
        /// Where.
        path: PathBuf,
    },
    /// URL template (`{job_id}`, `{image_index}`, `{id}`, any column).
    Http {
        /// The template.
        url: String,
        /// Further hosts that `actual_image_url` may name.
        allowed_hosts: Vec<String>,
    },
    /// S3 API.
    S3 {
        /// Bucket.
        bucket: String,
        /// Region.
        region: String,
        /// Custom endpoint, for S3-compatible servers.
        endpoint: Option<String>,
        /// Key template, as the URL template.
        key: String,
        /// `endpoint/bucket/key` instead of `bucket.endpoint/key`.
        path_style: bool,
        /// Static keys; `None`: environment, then EC2 metadata.
        credentials: Option<S3Keys>,
    },
}

/// Static S3 keys.
#[derive(Clone, Debug, PartialEq)]
pub struct S3Keys {
    /// Access key id.
    pub access_key_id: Secret,
    /// Secret access key.
    pub secret_access_key: Secret,
    /// Of temporary credentials.
    pub session_token: Option<Secret>,
}

/// `[reviewer]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ReviewerSettings {
    /// Model id.
    pub model: String,
    /// Without a trailing slash.
    pub base_url: String,
    /// `v1beta` or `v1`.
    pub api_version: String,
    /// Parallel calls at most.
    pub max_in_flight: u32,
    /// TCP and TLS.
    pub connect_timeout: Duration,
    /// One HTTP request.
    pub attempt_timeout: Duration,
    /// All attempts of one try.
    pub try_timeout: Duration,
    /// Nothing but outage for so long: give up, exit 75.
    pub give_up_after: Duration,
    /// What a picture that the provider blocks becomes.
    pub on_blocked: OnBlocked,
    /// Keys grouped by Google project; never empty when a review starts.
    pub projects: Vec<Project>,
    /// The user's own prompt instead of the built-in one.
    pub prompt_file: Option<PathBuf>,
    /// Prices in USD per million tokens that override the built-in table, by model id.
    pub prices: BTreeMap<String, Price>,
}

/// Price of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// USD per million input tokens.
    pub input: f64,
    /// USD per million output tokens, thoughts included.
    pub output: f64,
}

/// What a picture that the provider blocks becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBlocked {
    /// `auto_review_error`, details `blocked by Gemini: <reason>`.
    Error,
    /// `N1` and success, only for SAFETY with `SEXUALLY_EXPLICIT`; else as `Error`.
    N1,
}

/// Keys of one project share one quota.
#[derive(Clone, Debug, PartialEq)]
pub struct Project {
    /// Given by the user.
    pub name: String,
    /// API keys.
    pub keys: Vec<Secret>,
}

/// `[picture]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PictureSettings {
    /// Pixels; larger pictures are shrunk to it.
    pub longest_edge: u32,
    /// JPEG quality.
    pub quality: u8,
    /// Bytes that pictures in preparation may take together.
    pub memory: u64,
    /// Refused above so many pixels …
    pub max_pixels: u64,
    /// … or with an edge above this.
    pub max_edge: u32,
    /// Bytes of a file at most.
    pub max_bytes: u64,
}

impl Default for PictureSettings {
    fn default() -> Self {
        Self {
            longest_edge: 1536,
            quality: 85,
            memory: 256 * 1024 * 1024,
            max_pixels: 100_000_000,
            max_edge: 20_000,
            max_bytes: 50 * 1024 * 1024,
        }
    }
}

/// `[budget]`; `None`: no cap.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BudgetSettings {
    /// USD a run.
    pub usd_per_run: Option<f64>,
    /// USD a UTC day.
    pub usd_per_day: Option<f64>,
}
