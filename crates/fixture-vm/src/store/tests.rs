//! What a store keeps, gives back, finds damaged, and survives.

use std::collections::BTreeMap;

use fixture::contract::handover::FileDigest;
use fixture::contract::manifest::{Closure, Guest, Run};
use fixture::contract::{self, MANIFEST};
use fixture::scenario::Clock;
use tempfile::TempDir;

use super::*;
use crate::digest;

const FILES: [&str; 2] = ["lldp.json", "raw/lldp/sw.json0"];

/// A set of this text and closure in a new folder.
fn set(text: &str, closure: &str) -> (TempDir, Manifest) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("raw/lldp")).unwrap();
    let mut files = BTreeMap::new();
    for name in FILES {
        fs::write(dir.path().join(name), text).unwrap();
        let sha256 = digest::of_bytes(text.as_bytes());
        files.insert(name.to_owned(), FileDigest { sha256, size: text.len() as u64 });
    }
    let manifest = Manifest {
        contract: contract::VERSION,
        fixture_vm: "0".into(),
        scenario: "x".into(),
        clock: Clock::Virtual,
        seed: 1,
        window_ns: (1, 2),
        files,
        closure: Closure {
            digest: closure.into(),
            input: String::new(),
            image: String::new(),
            program: None,
            qemu: String::new(),
            qemu_sha256: String::new(),
            firmware: BTreeMap::new(),
            accelerator: "tcg".into(),
            machine: Vec::new(),
        },
        guest: Guest { kind: "debian".into(), kernel: "6".into(), tools: BTreeMap::new(), exit_status: 0 },
        run: Run { nonce: "n".into(), started_ns: 1, took_ns: 2 },
        answered: None,
    };
    fs::write(dir.path().join(MANIFEST), serde_json::to_vec(&manifest).unwrap()).unwrap();
    (dir, manifest)
}

fn store() -> (TempDir, Store) {
    let home = tempfile::tempdir().unwrap();
    let store = Store::find(Some(home.path())).unwrap();
    (home, store)
}

fn put(store: &Store, text: &str, closure: &str) -> Put {
    let (dir, manifest) = set(text, closure);
    store.put(dir.path(), &manifest).unwrap()
}

/// What the store has of a closure, as the text of its files.
fn take(store: &Store, closure: &str) -> Result<Option<String>, String> {
    let to = tempfile::tempdir().unwrap();
    match store.take(closure, to.path()).unwrap() {
        Found::Nothing => Ok(None),
        Found::Damaged(damaged) => Err(damaged.to_string()),
        Found::Set(manifest) => {
            assert_eq!(manifest.closure.digest, closure);
            let texts = FILES.map(|name| fs::read_to_string(to.path().join(name)).unwrap());
            assert_eq!(texts[0], texts[1]);
            Ok(Some(texts[0].clone()))
        }
    }
}

#[test]
fn what_was_put_is_given_back_under_its_closure_only() {
    let (_home, store) = store();
    assert_eq!(take(&store, "aa"), Ok(None));
    assert_eq!(put(&store, "one", "aa"), Put::Stored);
    assert_eq!(put(&store, "two", "bb"), Put::Stored);
    assert_eq!(take(&store, "aa"), Ok(Some("one".into())));
    assert_eq!(take(&store, "bb"), Ok(Some("two".into())));
    assert_eq!(put(&store, "one", "aa"), Put::Known);
    assert_eq!(fs::read_dir(store.dir.join(SCRATCH)).unwrap().count(), 0);
}

#[test]
fn other_bytes_for_the_same_closure_do_not_replace_the_first() {
    let (_home, store) = store();
    put(&store, "one", "aa");
    let Put::Differs(known) = put(&store, "two", "aa") else { panic!("it must be told") };
    assert_eq!(fs::read_to_string(known.join("lldp.json")).unwrap(), "one");
    assert_eq!(take(&store, "aa"), Ok(Some("one".into())));
}

#[test]
fn every_way_to_be_damaged_is_found_and_mended() {
    type Damage = fn(&Path);
    let ways: [(&str, Damage); 9] = [
        ("an altered byte", |dir| fs::write(dir.join("set/lldp.json"), "onf").unwrap()),
        ("a torn file", |dir| fs::write(dir.join("set/lldp.json"), "").unwrap()),
        ("a missing file", |dir| fs::remove_file(dir.join("set/raw/lldp/sw.json0")).unwrap()),
        ("a link", |dir| {
            fs::remove_file(dir.join("set/lldp.json")).unwrap();
            std::os::unix::fs::symlink("raw/lldp/sw.json0", dir.join("set/lldp.json")).unwrap();
        }),
        ("a torn entry", |dir| fs::write(dir.join("entry.json"), "{\"clos").unwrap()),
        ("no entry", |dir| fs::remove_file(dir.join("entry.json")).unwrap()),
        ("a name that leads out", |dir| {
            let entry = fs::read_to_string(dir.join("entry.json")).unwrap();
            fs::write(dir.join("entry.json"), entry.replace("lldp.json", "../../x")).unwrap();
        }),
        ("another manifest", |dir| {
            let manifest = fs::read_to_string(dir.join("set").join(MANIFEST)).unwrap();
            fs::write(dir.join("set").join(MANIFEST), manifest + " ").unwrap();
        }),
        ("another closure's entry", |dir| {
            let entry = fs::read_to_string(dir.join("entry.json")).unwrap();
            fs::write(dir.join("entry.json"), entry.replace("\"aa\"", "\"bb\"")).unwrap();
        }),
    ];
    for (what, damage) in ways {
        let (_home, store) = store();
        put(&store, "one", "aa");
        damage(&store.entry_dir("aa"));
        assert!(take(&store, "aa").is_err(), "{what} is not found");
        assert!(store.list().unwrap()[0].check().unwrap().is_err(), "{what}");
        assert_eq!(put(&store, "one", "aa"), Put::Stored, "{what} is not mended");
        assert_eq!(take(&store, "aa"), Ok(Some("one".into())), "{what}");
    }
}

#[test]
fn writers_readers_and_collectors_at_once_never_meet_half_a_set() {
    let (_home, store) = store();
    let (dir, manifest) = set(&"x".repeat(100_000), "aa");
    std::thread::scope(|scope| {
        for worker in 0..6 {
            let (store, dir, manifest) = (&store, &dir, &manifest);
            scope.spawn(move || {
                for _ in 0..20 {
                    match worker {
                        0 => store.remove(&store.list().unwrap()).unwrap(),
                        1 => {
                            take(store, "aa").unwrap();
                        }
                        _ => {
                            let put = store.put(dir.path(), manifest).unwrap();
                            assert!(matches!(put, Put::Stored | Put::Known), "{put:?}");
                        }
                    }
                }
            });
        }
    });
    put(&store, &"x".repeat(100_000), "aa");
    assert!(take(&store, "aa").unwrap().is_some());
}

#[test]
fn collecting_removes_what_it_is_told_and_what_killed_writers_left() {
    let (_home, store) = store();
    put(&store, "one", "aa");
    put(&store, "two", "bb");
    fs::create_dir(store.dir.join(SCRATCH).join("left")).unwrap();
    let mut sets = store.list().unwrap();
    sets.retain(|stored| stored.closure == "aa");
    store.remove(&sets).unwrap();
    assert_eq!(take(&store, "aa"), Ok(None));
    assert_eq!(take(&store, "bb"), Ok(Some("two".into())));
    assert_eq!(fs::read_dir(store.dir.join(SCRATCH)).unwrap().count(), 0);
}

#[test]
fn the_last_used_come_first() {
    let (_home, store) = store();
    let at = |closure: &str, age: u64| {
        let time = SystemTime::now() - std::time::Duration::from_secs(age);
        File::open(store.entry_dir(closure).join("entry.json")).unwrap().set_modified(time).unwrap();
    };
    for (closure, age) in [("aa", 9), ("bb", 7), ("cc", 8)] {
        put(&store, closure, closure);
        at(closure, age);
    }
    let order = || store.list().unwrap().into_iter().map(|stored| stored.closure).collect::<Vec<_>>();
    assert_eq!(order(), ["bb", "cc", "aa"]);
    take(&store, "aa").unwrap();
    assert_eq!(order(), ["aa", "bb", "cc"]);
}

/// Names the store that a child of these tests uses as another user.
const CHILD: &str = "FIXTURE_VM_TEST_STORE";
/// `nobody` on most machines; no user of this one's files anywhere.
const ANOTHER_USER: u32 = 65_534;

/// Not a test: what another user does with the store of the one who runs the tests.
#[test]
#[ignore = "a child of another test"]
fn another_user() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let text = |error: anyhow::Error| format!("{error:#}");
    match Store::find(Some(Path::new(&dir))) {
        Err(error) => println!("find: {}", text(error)),
        Ok(store) => {
            let to = tempfile::tempdir().unwrap();
            match store.take("aa", to.path()) {
                Ok(Found::Set(_)) => println!("take: {}", read(to.path())),
                other => println!("take: {}", other.map_or_else(text, |found| format!("{found:?}"))),
            }
            let listed = store.list().map(|sets| sets.iter().filter(|set| set.check().is_ok()).count());
            println!("list: {}", listed.map_or_else(text, |count| count.to_string()));
            let (new, manifest) = set("new", "bb");
            println!("put: {}", store.put(new.path(), &manifest).map_or_else(text, |put| format!("{put:?}")));
        }
    }
}

fn read(set: &Path) -> String {
    fs::read_to_string(set.join("lldp.json")).unwrap()
}

/// What another user meets in a store whose folders were given these permissions.
fn as_another_user(closed: &[(&str, u32)]) -> String {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let (home, store) = store();
    put(&store, "one", "aa");
    let allow = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    allow(home.path(), 0o755);
    closed.iter().for_each(|(name, mode)| allow(&home.path().join(name), *mode));
    let used = store.list().unwrap()[0].used;
    let mut child = crate::child::command(std::env::current_exe().unwrap());
    child.args(["--exact", "store::tests::another_user", "--ignored", "--nocapture"]).current_dir("/");
    child.env(CHILD, home.path()).env_remove("TMPDIR").uid(ANOTHER_USER).gid(ANOTHER_USER);
    let output = crate::child::output(child, std::time::Duration::from_secs(300)).unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(store.list().unwrap()[0].used, used, "nobody else notes a use");
    assert_eq!(take(&store, "aa"), Ok(Some("one".into())), "and the store is as it was");
    said.replace(home.path().to_str().unwrap(), "STORE")
}

#[test]
fn another_user_takes_from_a_store_that_is_open_and_is_told_of_one_that_is_not() {
    if !nix::unistd::getuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let refused = "the store STORE belongs to user 0 and is not open to this one";
    let open = as_another_user(&[]);
    assert!(open.contains("take: one") && open.contains("list: 1"), "{open}");
    assert!(open.contains(&format!("put: {refused}")), "{open}");
    // No lock that anyone but the owner may open, and a set that nobody else may read.
    let unlocked = as_another_user(&[("lock", 0o600)]);
    assert!(unlocked.contains(&format!("take: {refused}")), "{unlocked}");
    for closed in ["sets/aa", "sets/aa/set/lldp.json", "sets/aa/entry.json"] {
        let said = as_another_user(&[(closed, 0)]);
        assert!(said.contains(&format!("take: {refused}")), "{closed}: {said}");
        assert!(said.contains("chmod -R go+rX STORE"), "{closed}: {said}");
    }
    for closed in ["sets", ""] {
        let said = as_another_user(&[(closed, 0o700)]);
        assert!(said.contains(refused), "{closed:?}: {said}");
    }
}
