//! Registries that take a request of one kind and never answer it.

use std::time::{Duration, Instant};

use super::*;
use crate::system::oci;

/// The bound in these tests, instead of 13 s.
const SILENCE: Duration = Duration::from_millis(400);

/// A registry that never answers requests whose line has this part, and how it is asked; what the failure says.
async fn told(hangs_at: &'static str, login: Login) -> String {
    let fake = Fake::new(move |seen, _, port| {
        if seen.line.contains(hangs_at) {
            loop {
                std::thread::park();
            }
        }
        let begun = || (202, vec![("Location", "/upload".to_owned())], Vec::new());
        match seen.line.split(' ').next() {
            _ if hangs_at == "/token" => guarded(seen, port, answer(404)),
            Some("POST") => begun(),
            Some("HEAD") => answer(404),
            _ => answer(200),
        }
    });
    let (folder, mut registry) = fake.registry(login);
    registry.client.impatient(SILENCE);
    let file = folder.path().join("blob");
    std::fs::write(&file, [7; 3000]).expect("a file");
    let blob = oci::describe("x".into(), &[7; 3000]);
    let digest = Digest::of([7; 3000]);
    let began = Instant::now();
    let error = match hangs_at {
        "HEAD /v2/team/lamina/app/manifests" => registry.client.digest("team/lamina/app", "latest").await.err(),
        "GET /v2/team/lamina/app/blobs" => {
            registry.client.blob_into("team/lamina/app", &digest, &folder.path().join("out")).await.err()
        }
        "POST /v2" | "PUT /upload" => {
            registry.client.ensure_blob("team/lamina/app", &[], &blob, Blob::File(&file)).await.err()
        }
        _ => registry.client.manifest("team/lamina/app", "latest").await.err(),
    };
    // Asked once more, and no more: 22 s where the bound is 13 s.
    let took = began.elapsed();
    assert!(took < SILENCE * 8, "{hangs_at}: {took:?}");
    ImageStoreError::from(error.expect("no answer")).to_string()
}

#[tokio::test]
async fn a_registry_that_never_answers_is_given_up_whatever_it_was_asked() {
    let plain = [
        "GET /v2/team/lamina/app/manifests",
        "HEAD /v2/team/lamina/app/manifests",
        "GET /v2/team/lamina/app/blobs",
        "POST /v2",
        "PUT /upload",
    ];
    let plain = plain.map(|hangs_at| told(hangs_at, Login::Anonymous));
    for told in futures_util::future::join_all(plain).await {
        assert!(told.contains(" does not answer: it takes the connection"), "{told}");
    }
    let tokens = told("/token", me()).await;
    assert!(tokens.contains("has a token server that does not answer"), "{tokens}");
}
