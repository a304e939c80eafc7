//! Lookout reviews images on a schedule, and notifies people when a review does not happen.
//!
//! The story in ten sentences. A [`schedule`] makes slots; each slot is written down before it is
//! due. When it is due, [`run`] claims it and starts a keeper. The keeper ([`keep`]) is a process of
//! its own: it starts the job, reads every byte it prints, keeps the time box and writes what it saw
//! to a file. The job is the built-in [`review`], or the user's own command or endpoint. [`watch`]
//! reads the evidence, gives the slot its one verdict, and opens or resolves incidents. Each change
//! of an incident is a row of news. [`alert`] turns news into messages and delivers each at least
//! once. All rows live in `guard.db` ([`store`]). [`web`] and the command line ([`cli`]) show them;
//! [`config`] reads the TOML and [`app`] puts the parts together. [`drill`] is a local
//! server in place of Gemini, for the demo and the tests.

pub mod clock;
pub mod duration;
pub mod http;
pub mod placeholder;
pub mod process;
pub mod protocol;
pub mod pulse;
pub mod redact;
pub mod regular_file;
pub mod rundir;
pub mod secret;
pub mod sqlite;
pub mod storage;
pub mod text;
pub mod timezone;

pub mod schedule;

pub mod keep;

pub mod run;

pub mod watch;

pub mod alert;

pub mod review;

pub mod store;

pub mod web;

pub mod drill;

pub mod config;

pub mod app;

pub mod cli;
