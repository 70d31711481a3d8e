//! Saved guests as they are kept, taken, found wrong, left alone and removed.

use super::*;

struct Home {
    dir: tempfile::TempDir,
    store: Store,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::of(&Cache::at(dir.path().join("cache")).unwrap()).unwrap();
        fs::write(dir.path().join("saved"), vec![7; 3 << 20]).unwrap();
        fs::write(dir.path().join("overlay"), "empty").unwrap();
        Self { dir, store }
    }

    fn add(&self, key: &str) {
        self.add_of("image", key);
    }

    fn add_of(&self, image: &str, key: &str) {
        let said = Said { console: b"booting\n".into(), events: b"{}\n".into() };
        let [saved, overlay] = ["saved", "overlay"].map(|name| self.dir.path().join(name));
        self.store.add(key, image, &saved, &overlay, &said).unwrap();
    }

    fn take(&self, key: &str) -> bool {
        self.take_for(Need::Whole, key).is_some()
    }

    fn take_for(&self, need: Need, key: &str) -> Option<Taken> {
        let [disk, console, events] = ["disk", "console", "events"].map(|name| self.dir.path().join(name));
        self.store.take(key, need, &disk, &console, &events).unwrap()
    }
}

#[test]
fn what_was_added_is_taken_whole() {
    let home = Home::new();
    assert!(!home.take("k"));
    home.add("k");
    // A second run that saved the same guest meanwhile.
    home.add("k");
    assert!(home.take("k"));
    assert_eq!(fs::read(home.dir.path().join("disk")).unwrap(), vec![7; 3 << 20]);
    assert_eq!(fs::read(home.dir.path().join("console")).unwrap(), b"booting\n");
    assert!(!home.take("another"));
    let taken = home.take_for(Need::ToContinue, "k").unwrap();
    assert_eq!(fs::read(home.dir.path().join("disk")).unwrap(), b"empty");
    assert_eq!(fs::read(taken.over.unwrap()).unwrap(), vec![7; 3 << 20], "read where it lies");
    assert_eq!(fs::read_dir(&home.store.scratch).unwrap().count(), 0, "nothing is left over");
}

#[test]
fn what_is_torn_or_altered_is_discarded_and_can_be_made_again() {
    let torn: [fn(&Path); 4] = [
        |state| File::options().write(true).open(state.join(DISK)).unwrap().set_len(1 << 20).unwrap(),
        |state| fs::write(state.join(DISK), [vec![7; (3 << 20) - 1], vec![8]].concat()).unwrap(),
        |state| fs::remove_file(state.join(EVENTS)).unwrap(),
        |state| fs::write(state.join(CONTENTS), "{").unwrap(),
    ];
    let needs = [Need::ToContinue, Need::Whole];
    for (tear, need) in torn.iter().flat_map(|tear| needs.map(|need| (tear, need))) {
        let home = Home::new();
        home.add("k");
        assert!(home.take("k"), "and from here on it is not read while nothing changes");
        tear(&home.store.dir.join("k"));
        assert_eq!(home.take_for(need, "k"), None);
        assert!(!home.store.dir.join("k").exists());
        home.add("k");
        assert!(home.take("k"));
    }
}

#[test]
fn those_of_images_that_are_gone_go_too() {
    let home = Home::new();
    home.add_of("alive", "a");
    home.add_of("dead", "d");
    home.add_of("dead", "broken");
    fs::write(home.store.dir.join("broken").join(CONTENTS), "{").unwrap();
    let size = (3 << 20) + b"emptybooting\n{}\n".len() as u64;
    assert_eq!(home.store.remove_except(|image| image == "alive", true).unwrap(), size);
    assert!(home.take("d"), "a dry run removes nothing");
    assert_eq!(home.store.remove_except(|image| image == "alive", false).unwrap(), size);
    assert!(home.take("a") && !home.take("d"));
    assert!(!home.store.dir.join("broken").exists());
}

#[test]
fn what_was_wanted_once_is_known_until_it_is_collected() {
    let home = Home::new();
    assert!(!home.store.was_wanted("k").unwrap());
    assert!(home.store.was_wanted("k").unwrap());
    assert!(!home.store.was_wanted("another").unwrap());
    home.store.remove_except(|_| true, false).unwrap();
    assert!(!home.store.was_wanted("k").unwrap());
}

#[test]
fn those_that_were_not_used_for_longest_go() {
    let home = Home::new();
    let keys: Vec<_> = (0..=KEPT).map(|n| n.to_string()).collect();
    for (at, key) in (1..).zip(&keys) {
        home.add(key);
        let used = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(at);
        if let Ok(file) = File::open(home.store.dir.join(key).join(CONTENTS)) {
            file.set_modified(used).unwrap();
        }
    }
    assert!(home.take(&keys[1]));
    home.add("new");
    let there: Vec<_> = keys.iter().filter(|key| home.store.dir.join(key).exists()).collect();
    assert_eq!(there, [&keys[1], &keys[3], &keys[4], &keys[5], &keys[6]]);
}

/// Names the home in which a child of these tests looks for a saved guest.
const CHILD: &str = "FIXTURE_VM_TEST_SAVED";

/// Not a test: what a child of these tests does. Hardly a file can be opened, which says nothing of
/// the saved guest.
#[test]
#[ignore = "a child of another test"]
fn takes_with_no_file_to_open() {
    use nix::sys::resource::{Resource, setrlimit};
    let Some(home) = std::env::var_os(CHILD).map(std::path::PathBuf::from) else { return };
    let store = Store::of(&Cache::at(home.join("cache")).unwrap()).unwrap();
    let open = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let [disk, console, events] = ["disk", "console", "events"].map(|name| home.join(name));
    // With none, with one for the contents alone, and so on.
    for limit in 3..=open {
        setrlimit(Resource::RLIMIT_NOFILE, limit, open + 64).unwrap();
        let taken = store.take("k", Need::Whole, &disk, &console, &events);
        setrlimit(Resource::RLIMIT_NOFILE, open + 64, open + 64).unwrap();
        assert!(limit > 3 || !matches!(taken, Ok(Some(_))), "{taken:?}");
        assert!(store.dir.join("k").join(DISK).is_file(), "{limit}");
    }
    println!("the saved guest is there");
}

#[test]
fn what_this_machine_cannot_read_or_has_no_room_for_stays() {
    let home = Home::new();
    home.add("k");
    let full = Path::new("/dev/full");
    for need in [Need::ToContinue, Need::Whole] {
        let [console, events] = ["console", "events"].map(|name| home.dir.path().join(name));
        let error = home.store.take("k", need, full, &console, &events).unwrap_err();
        assert!(error.to_string().contains("no room left on the disk that holds /dev/full"), "{error:#}");
    }
    let mut child = crate::child::command(std::env::current_exe().unwrap());
    child.args(["--exact", "warm::tests::takes_with_no_file_to_open", "--ignored", "--nocapture"]);
    child.env(CHILD, home.dir.path());
    let output = crate::child::output(child, std::time::Duration::from_secs(300)).unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("the saved guest is there"), "{said}");
    assert!(home.take("k"), "it is there, and right");
}

#[test]
fn a_second_look_reads_what_looks_untouched() {
    let home = Home::new();
    home.add("k");
    assert!(home.take("k"));
    assert!(home.store.wrong("k").unwrap().is_none());
    assert!(home.store.wrong("another").unwrap().is_none());
    let disk = home.store.dir.join("k").join(DISK);
    let mut bytes = fs::read(&disk).unwrap();
    bytes[9] ^= 1;
    fs::write(&disk, bytes).unwrap();
    let wrong = home.store.wrong("k").unwrap().unwrap();
    assert!(wrong.to_string().contains(DISK), "{wrong}");
    assert!(disk.is_file(), "whoever looks removes nothing");
}
