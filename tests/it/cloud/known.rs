//! What the ledger knows of a machine brings it back: though its labels are gone, lists fail, or an older version wrote
//! the ledger. Not responsible for: what the provider does with it (see `hcloud::leftovers`).

use std::collections::BTreeMap;

use serde_json::json;

use super::recovery::{killed_while_it_builds, ledger};
use super::{BASE, Cloud, SESSION};
use crate::support::hetzner::{LabelTrouble, Troubles};
use crate::support::project::text;

fn failing(list: &'static str, status: u16, code: &'static str) -> Troubles {
    Troubles { lists: BTreeMap::from([(list, (status, code))]), ..Troubles::default() }
}

#[test]
fn a_killed_run_gives_back_by_the_ids_in_its_ledger_and_an_older_ledger_by_name() {
    for older in [false, true] {
        let cloud = Cloud::new(SESSION, "");
        killed_while_it_builds(&cloud);
        let server = cloud.fake.servers().remove(0).id.to_string();
        let sql = "select id from resources where kind = 'server'";
        let known: String = ledger(&cloud).query_row(sql, [], |row| row.get(0)).expect("a server");
        assert_eq!(known, server);
        if older {
            ledger(&cloud).execute_batch("drop table resources; pragma user_version = 3;").expect("made older");
        } else {
            // No list shows whose it is any more.
            cloud.fake.unlabel();
        }
        let collected = cloud.lian(&["leases", "gc", "--format", "json"]).exits(0).json();
        assert_eq!(collected["released"].as_array().expect("a list").len(), 1, "{collected}");
        cloud.is_empty();
    }
}

#[test]
fn an_api_that_drops_labels_is_told_and_left_with_nothing() {
    for labels in [LabelTrouble::Dropped, LabelTrouble::Forgotten] {
        let cloud = Cloud::new(SESSION, "");
        cloud.project.layer("base", BASE, "FROM base.example/busybox:1\nRUN true\n");
        cloud.fake.troubled(Troubles { labels, ..Troubles::default() });
        let ran = cloud.lian(&["apply", "--format", "json"]);
        match labels {
            LabelTrouble::Forgotten => assert_eq!(ran.exits(0).outcomes(), ["base=built"]),
            _ => assert!(ran.exits(4).stdout.contains("lian::hcloud::unmarked")),
        }
        cloud.is_empty();
    }
}

#[test]
fn an_api_without_primary_ips_builds_and_a_list_that_fails_hides_no_lease() {
    let cloud = Cloud::new(SESSION, "");
    cloud.project.layer("base", BASE, "FROM base.example/busybox:1\nRUN true\n");
    cloud.fake.troubled(failing("primary_ips", 404, "not_found"));
    assert_eq!(cloud.lian(&["apply", "--format", "json"]).exits(0).outcomes(), ["base=built"]);
    cloud.is_empty();
    let labels = [("lian", "1"), ("lian-owner", "somebody"), ("lian-lease", "q-1"), ("lian-expires", "4000000000")];
    cloud.fake.add_server("lian-somebody-q-1", &labels);
    let listed = cloud.lian(&["leases", "--format", "json"]).exits(0).json();
    assert_eq!((text(&listed["leases"][0]["lease"]), &listed["unseen"]), ("q-1", &json!(null)), "{listed}");
    cloud.fake.troubled(failing("ssh_keys", 403, "forbidden"));
    let listed = cloud.lian(&["leases", "--format", "json"]).exits(4).json();
    assert_eq!(text(&listed["leases"][0]["lease"]), "q-1", "{listed}");
    assert!(text(&listed["unseen"][0]).contains("forbidden"), "{listed}");
    let shown = cloud.lian(&["leases"]).exits(4);
    assert!(shown.stdout.contains("q-1") && shown.stderr.contains("lian::hcloud::forbidden"), "{}", shown.both());
    // What the ledger knows is shown though the provider cannot be asked at all.
    cloud.fake.troubled(Troubles::default());
    killed_while_it_builds(&cloud);
    let server = cloud.fake.servers().iter().map(|server| server.id).max().expect("a server");
    let mut nobody = cloud.command(&["leases"]);
    let shown = crate::support::project::Ran::from(nobody.env_remove("HCLOUD_TOKEN").output().expect("it starts"));
    let shown = shown.exits(5);
    assert!(shown.stdout.contains(&format!("server {server}")), "{}", shown.both());
    cloud.lian(&["leases", "gc"]).exits(0);
    assert_eq!(cloud.fake.everything_gone().len(), 1);
}
