//! A clock for one Redis that a test steps while it runs.
//!
//! libfaketime cannot be loaded into a redis-server with jemalloc: it allocates before the allocator stands. All of Redis' wall
//! clock comes from `gettimeofday`, so that a library of one function that allocates nothing does.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

/// Adds what stands in the file, in microseconds.
const SOURCE: &str = r#"
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long long *step;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("OVERSHOT_TEST_CLOCK");
  int file = path ? open(path, O_RDONLY) : -1;
  if (file < 0) return;
  void *place = mmap(0, sizeof *step, PROT_READ, MAP_SHARED, file, 0);
  if (place != MAP_FAILED) step = place;
  close(file);
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec real;
  (void)zone;
  if (syscall(SYS_clock_gettime, CLOCK_REALTIME, &real)) return -1;
  long long micros = real.tv_sec * 1000000LL + real.tv_nsec / 1000 + (step ? *step : 0);
  now->tv_sec = micros / 1000000;
  now->tv_usec = micros % 1000000;
  return 0;
}
"#;

/// By how much the clock of a Redis is off.
#[derive(Debug)]
pub(crate) struct SteppedClock {
    library: String,
    path: String,
    file: File,
}

impl SteppedClock {
    /// A clock that is right, with all it needs in this folder.
    pub(crate) fn new(folder: &Path) -> Self {
        let [source, library, path] = ["clock.c", "clock.so", "clock"].map(|name| folder.join(name));
        std::fs::write(&source, SOURCE).expect("the folder is ours");
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]);
        let status = compile.status().unwrap_or_else(|error| panic!("cc: {error}; type: make setup"));
        assert!(status.success(), "cc could not make the clock");
        let file = File::create(&path).expect("the folder is ours");
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let clock = Self { library: text(&library), path: text(&path), file };
        clock.set(0);
        clock
    }

    /// Steps to so many milliseconds off the right time.
    pub(crate) fn set(&self, millis: i64) {
        self.file.write_all_at(&(millis * 1000).to_ne_bytes(), 0).expect("the file is ours");
    }

    /// Has a program go by it.
    pub(crate) fn give_to(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("OVERSHOT_TEST_CLOCK", &self.path);
    }
}
