/* Holds a program back at random: before it hears of what has come in, one time in ten, for up to 200 ms. Of programs that wait for
 * each other the one that is usually last then comes first, and what took that order for granted fails. `make shake` loads it into
 * every process of the tests; it acts in those whose name holds OVERSHOT_SHAKE. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

static const unsigned ONE_IN = 10;
static const unsigned LONGEST_US = 200000;

static int is_meant;
static uint64_t seed;
static __thread uint64_t state;

__attribute__((constructor)) static void begin(void) {
  struct timespec now;
  const char *who = getenv("OVERSHOT_SHAKE");
  clock_gettime(CLOCK_REALTIME, &now);
  seed = (uint64_t)now.tv_nsec << 20 ^ (uint64_t)now.tv_sec ^ (uint64_t)getpid() << 40;
  is_meant = who && *who && strstr(program_invocation_short_name, who);
}

/* xorshift64: of each thread its own. */
static uint64_t draw(void) {
  if (!state) state = seed ^ (uintptr_t)&state ^ 1;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

int epoll_wait(int set, struct epoll_event *events, int most, int timeout) {
  static int (*real)(int, struct epoll_event *, int, int);
  if (!real) real = (int (*)(int, struct epoll_event *, int, int))dlsym(RTLD_NEXT, "epoll_wait");
  int count = real(set, events, most, timeout);
  if (is_meant && count > 0 && draw() % ONE_IN == 0) {
    int before = errno;
    struct timespec pause = {0, (long)(draw() % LONGEST_US) * 1000};
    nanosleep(&pause, NULL);
    errno = before;
  }
  return count;
}
