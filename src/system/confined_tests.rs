//! Tests of folders that nothing leads out of: modes, links at every place, pipes and devices, swaps while reading.

use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use super::*;

struct World {
    _dir: tempfile::TempDir,
    inside: Folder,
    /// A folder that must stay as it is.
    outside: PathBuf,
}

fn world() -> World {
    let dir = tempfile::tempdir().expect("a folder");
    let outside = dir.path().join("outside");
    std::fs::create_dir(&outside).expect("a folder");
    std::fs::write(outside.join("canary"), "alive").expect("writable");
    let inside = make_private(&dir.path().join("a/inside")).expect("a folder");
    World { outside, inside, _dir: dir }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("there").mode() & 0o7777
}

#[test]
fn what_is_made_is_for_this_user_only_whatever_was_there() {
    let world = world();
    let inside = &world.inside;
    assert_eq!(mode(inside.path()), 0o700);
    std::fs::create_dir(inside.path().join("wide")).expect("a folder");
    std::fs::set_permissions(inside.path().join("wide"), Permissions::from_mode(0o777)).expect("ours");
    inside.make_folder("wide/deep").expect("made");
    assert_eq!(mode(&inside.path().join("wide/deep")), 0o700);
    inside.make_folder("wide").expect("made");
    assert_eq!(mode(&inside.path().join("wide")), 0o700);
    inside.write_whole("wide/file", b"text").expect("written");
    inside.append("wide/log").expect("opened").write_all(b"line").expect("written");
    drop(inside.lock_file("lock").expect("opened"));
    for file in ["wide/file", "wide/log", "lock"] {
        assert_eq!(mode(&inside.path().join(file)), 0o600, "{file}");
    }
    assert_eq!(inside.read("wide/file", 4).expect("readable"), b"text");
    assert_eq!(inside.read("wide/file", 3).expect_err("too long").kind(), io::ErrorKind::FileTooLarge);
    assert_eq!(inside.names().expect("readable"), ["lock", "wide"]);
}

#[test]
fn no_link_is_followed_wherever_it_stands() {
    let world = world();
    let (inside, outside) = (&world.inside, &world.outside);
    symlink(outside, inside.path().join("folder")).expect("a link");
    symlink(outside.join("canary"), inside.path().join("file")).expect("a link");
    symlink(outside.join("new"), inside.path().join("dangling")).expect("a link");
    inside.make_folder("real").expect("made");
    symlink(outside, inside.path().join("real/folder")).expect("a link");
    for path in ["folder/canary", "file", "real/folder/canary", "../outside/canary", "/etc/passwd", "a/../b"] {
        let error = inside.read(path, 100).expect_err(path);
        assert_ne!(error.kind(), io::ErrorKind::NotFound, "{path}: {error}");
    }
    for path in ["folder/new", "file", "dangling", "real/folder/new"] {
        assert!(inside.append(path).is_err() && inside.lock_file(path).is_err() && inside.create_new(path).is_err());
    }
    assert!(inside.folder("folder").is_err() && inside.make_folder("folder/new").is_err());
    assert!(inside.rename("folder/canary", "stolen").is_err() && inside.remove_file("folder/canary").is_err());
    assert!(inside.remove_tree("folder/canary").is_err());
    assert!(!inside.is_file("file"));
    // Replacing or removing a link changes the link alone.
    inside.write_whole("file", b"ours").expect("written");
    inside.remove_tree("real").expect("removed");
    inside.remove_file("dangling").expect("removed");
    inside.remove_tree("folder").expect("removed");
    assert_eq!(std::fs::read_to_string(outside.join("canary")).expect("there"), "alive");
    assert_eq!(std::fs::read_dir(outside).expect("readable").count(), 1);
    assert_eq!(inside.names().expect("readable"), ["file"]);
}

#[test]
fn a_pipe_is_not_waited_for_and_a_device_not_read() {
    let world = world();
    let inside = &world.inside;
    let pipe = inside.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    for flags in [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR] {
        let error = inside.regular(Path::new("pipe"), flags).expect_err("a pipe");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    }
    let devices = open(Path::new("/dev")).expect("there");
    assert_eq!(devices.read("zero", 10).expect_err("a device").kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_folder_stays_the_one_that_was_opened() {
    let world = world();
    let (inside, outside) = (&world.inside, &world.outside);
    let held = inside.make_folder("held").expect("made");
    std::fs::rename(inside.path().join("held"), inside.path().join("moved")).expect("moved");
    symlink(outside, inside.path().join("held")).expect("a link");
    held.write_whole("file", b"text").expect("written");
    held.remove_tree("nothing").expect_err("nothing is there");
    assert_eq!(std::fs::read_to_string(inside.path().join("moved/file")).expect("there"), "text");
    assert!(!outside.join("file").exists());
}

#[test]
fn a_projects_file_is_read_through_links_that_stay_inside() {
    let world = world();
    let (inside, outside) = (&world.inside, &world.outside);
    inside.write_whole("file", b"text").expect("written");
    symlink("file", inside.path().join("near")).expect("a link");
    symlink(inside.path().join("file"), inside.path().join("absolute")).expect("a link");
    symlink(outside.join("canary"), inside.path().join("out")).expect("a link");
    symlink("/dev/zero", inside.path().join("endless")).expect("a link");
    let read = |name: &str| read_below(inside.path(), &inside.path().join(name), 100);
    for name in ["file", "near", "absolute"] {
        assert_eq!(read(name).expect("readable"), b"text", "{name}");
    }
    for name in ["out", "endless"] {
        assert_eq!(read(name).expect_err("outside").kind(), io::ErrorKind::PermissionDenied, "{name}");
    }
    assert_eq!(read("none").expect_err("missing").kind(), io::ErrorKind::NotFound);
    assert_eq!(read(".").expect_err("a folder").kind(), io::ErrorKind::InvalidInput);
}

/// A link that is swapped for a file and back all the time: what is read is the file, or nothing.
#[test]
fn a_swap_while_reading_leads_nowhere() {
    let world = world();
    let (inside, outside) = (&world.inside, &world.outside);
    inside.write_whole("good", b"good").expect("written");
    symlink(outside.join("canary"), inside.path().join("evil")).expect("a link");
    let ends = Instant::now() + Duration::from_millis(300);
    let (name, good, evil) = (inside.path().join("name"), inside.path().join("good"), inside.path().join("evil"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while Instant::now() < ends {
                for from in [&good, &evil] {
                    let copy = inside.path().join("copy");
                    let _ = std::fs::remove_file(&copy);
                    // A hard link to a link is that link again.
                    std::fs::hard_link(from, &copy).and_then(|()| std::fs::rename(&copy, &name)).expect("swapped");
                }
            }
        });
        let mut seen = 0;
        while Instant::now() < ends {
            for bytes in [inside.read("name", 100), read_below(inside.path(), &name, 100)].into_iter().flatten() {
                assert_eq!(bytes, b"good");
                seen += 1;
            }
        }
        assert!(seen > 0, "the file was never read");
    });
}

#[test]
fn what_leads_elsewhere_is_no_id() {
    for sound in ["7f3a9c1e", "7f3a9c1e-12", "r", "api_v1.2"] {
        assert!(is_name(sound), "{sound}");
    }
    for wrong in ["", ".", "..", "../x", "a/b", "/etc", "-rf", ".hidden", "a\nb", "a b", "é", &"x".repeat(201)] {
        assert!(!is_name(wrong), "{wrong}");
    }
}
