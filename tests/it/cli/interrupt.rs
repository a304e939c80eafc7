//! Ctrl-C in a review: it says at once what it does, and how to end it at once.

use std::process::Stdio;
use std::time::Duration;

use lookout::drill::fake_gemini::{Behaviour, FakeGemini, FakeGeminiSettings};
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_ctrl_c_says_what_happens_and_the_image_in_progress_is_finished() {
    let behaviour = Behaviour::slow(Duration::from_secs(2));
    let gemini = FakeGemini::start(FakeGeminiSettings { port: 0, behaviour }).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let photo = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/photos/text.jpg");
    std::fs::create_dir(folder.path().join("images")).unwrap();
    std::fs::copy(photo, folder.path().join("images/text.jpg")).unwrap();
    let settings = format!(
        "[records]\nkind = \"sqlite\"\n[images]\nkind = \"folder\"\npath = \"images\"\n\
         [reviewer]\nkind = \"gemini\"\nbase_url = \"{}\"\n",
        gemini.base_url
    );
    std::fs::write(folder.path().join("lookout.toml"), settings).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_lookout"))
        .arg("review")
        .current_dir(folder.path())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("GEMINI_API_KEY", "not-a-real-key")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let called = async {
        while gemini.stats().calls == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), called).await.unwrap();
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output());
    let output = output.await.unwrap().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(err.contains("press Ctrl-C again to stop now"), "{out}{err}");
    assert!(out.contains("Successful: 1 (100.0%)"), "{out}{err}");
}
