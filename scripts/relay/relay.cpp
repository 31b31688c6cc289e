// A TCP relay that behaves like a link: delay and bandwidth each way, in user space.
//
//   gvfs-relay HOST PORT TO_HOST TO_PORT ONE_WAY_DELAY_NS BYTES_PER_SECOND    (0: none, unlimited)
//
// It listens on HOST:PORT (0: any) and connects each connection on to TO_HOST:TO_PORT. It says
// "listening PORT", then answers each line of its standard input with its counters: bytes to the
// server, bytes to the client, connections accepted, connections open.
//   counters   nothing else
//   cut        stop forwarding and accepting; connections stay, as on a dead network
//   restore    go on where it was cut
//   drop       reset all connections
// It ends when its standard input does.
//
// The link. All connections share one link each way. A byte leaves the link when those before it
// have left (rate), and arrives one delay later. A chunk read from a socket knows when its first
// byte began to leave; how much of it has arrived by a given time is then plain arithmetic.
// The queue before the link is bounded in time (`max_backlog`): when it is full the relay stops
// reading, and TCP tells the sender. A receiver that does not read holds up its own flow only.
// What a link does not do here: lose, reorder, or delay the handshake of TCP itself (connect()
// is answered by the relay at once).
//
// C++ because timers must be exact to some microseconds (half of a 1 ms round trip is 500 us, a
// timer of Node is exact to 1 ms) and because unshaped traffic must pass at more than 1 GB/s.
//
// Sockets are edge-triggered: an event sets `readable` or `writable`, EAGAIN clears it. pump()
// moves what can be moved and says when it wants to be called again.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <limits>
#include <list>
#include <string>
#include <vector>

namespace {

using Nanoseconds = int64_t;
constexpr Nanoseconds never = std::numeric_limits<Nanoseconds>::max();
constexpr Nanoseconds millisecond = 1'000'000;

Nanoseconds now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

[[noreturn]] void die(const char* what) {
  fprintf(stderr, "gvfs-relay: %s: %s\n", what, strerror(errno));
  exit(1);
}

struct Shape {
  Nanoseconds delay = 0;        // one way
  double bytes_per_second = 0;  // 0: unlimited

  bool plain() const { return delay == 0 && bytes_per_second == 0; }
  Nanoseconds time_for(double bytes) const {
    return bytes_per_second == 0 ? 0 : Nanoseconds(bytes * 1e9 / bytes_per_second);
  }
  // The queue before the link: one round trip, as a well-chosen router has, and a little.
  Nanoseconds max_backlog() const { return 2 * delay + 2 * millisecond; }
  // What one flow may hold, for a receiver that does not read.
  size_t max_held() const {
    if (bytes_per_second == 0) return 64 << 20;
    return size_t(bytes_per_second * double(delay + max_backlog()) / 1e9) + (1 << 20);
  }
  // One read: at most a millisecond of the link, so that connections take turns.
  size_t read_size(size_t most) const {
    if (bytes_per_second == 0) return most;
    return std::clamp(size_t(bytes_per_second / 1000), size_t(4096), most);
  }
  // The smallest portion that is worth a wake-up: one packet, or 100 us of the link.
  double grain() const { return std::max(1448.0, bytes_per_second / 10'000); }
};

struct Link {
  Nanoseconds free_at = 0;  // when all that was queued has left
  uint64_t delivered = 0;   // bytes
};

struct Chunk {
  std::vector<char> bytes;
  size_t sent = 0;
  Nanoseconds begin = 0;  // when its first byte began to leave
};

struct Socket {
  int fd = -1;
  bool readable = false;
  bool writable = false;
  bool failed = false;  // reset by its peer, or never connected
};

struct Flow {
  Socket* from;
  Socket* to;
  Link* link;
  std::deque<Chunk> queue;
  size_t held = 0;
  Nanoseconds end_at = never;  // when the sender's FIN arrives
  bool ended = false;          // and has been passed on
};

struct Connection {
  Socket client, server;
  Flow to_server, to_client;
  bool broken = false;

  Connection(int client_fd, int server_fd, Link* up, Link* down)
      : client{client_fd},
        server{server_fd},
        to_server{&client, &server, up, {}, 0, never, false},
        to_client{&server, &client, down, {}, 0, never, false} {}
  Connection(const Connection&) = delete;
};

class Relay {
 public:
  Relay(const char* host, const char* port, const char* to_host, const char* to_port, Shape shape)
      : shape_(shape), target_(resolve(to_host, to_port)), scratch_(256 << 10) {
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    timer_ = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (epoll_ < 0 || timer_ < 0) die("epoll");
    listener_.fd = listen_on(resolve(host, port));
    watch(listener_.fd, &listener_, EPOLLIN | EPOLLET);
    watch(timer_, &timer_, EPOLLIN);
    watch(STDIN_FILENO, &commands_, EPOLLIN);
  }

  void run() {
    for (;;) {
      Nanoseconds next = cut_ ? never : pump();
      sweep();
      sleep_until(next);
    }
  }

 private:
  struct Address {
    sockaddr_storage bytes{};
    socklen_t length = 0;
    sockaddr* get() { return reinterpret_cast<sockaddr*>(&bytes); }
  };

  static Address resolve(const char* host, const char* port) {
    addrinfo hints{}, *found = nullptr;
    hints.ai_socktype = SOCK_STREAM;
    if (int error = getaddrinfo(host, port, &hints, &found); error != 0) {
      fprintf(stderr, "gvfs-relay: %s:%s: %s\n", host, port, gai_strerror(error));
      exit(1);
    }
    Address address;
    memcpy(&address.bytes, found->ai_addr, found->ai_addrlen);
    address.length = found->ai_addrlen;
    freeaddrinfo(found);
    return address;
  }

  int new_socket(int family) const {
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) die("socket");
    tune(fd);
    return fd;
  }

  // A small receive buffer, because what lies in it is queued outside of the link's own queue.
  void tune(int fd) const {
    int yes = 1, buffer = 128 << 10;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (shape_.bytes_per_second > 0) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
  }

  int listen_on(Address address) const {
    int yes = 1, fd = new_socket(address.bytes.ss_family);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, address.get(), address.length) < 0 || listen(fd, 128) < 0) die("listen");
    if (getsockname(fd, address.get(), &address.length) < 0) die("getsockname");
    auto* v4 = reinterpret_cast<sockaddr_in*>(&address.bytes);  // the port lies alike in IPv6
    printf("listening %d\n", ntohs(v4->sin_port));
    fflush(stdout);
    return fd;
  }

  void watch(int fd, void* owner, uint32_t events) const {
    epoll_event event{};
    event.events = events;
    event.data.ptr = owner;
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
  }

  // Moves what can be moved now; gives the time at which more can be.
  Nanoseconds pump() {
    accept_all();
    Nanoseconds next = never;
    for (int round = 0; round < 16; round++) {
      bool moved = false;
      next = never;
      for (auto& connection : connections_) {
        for (Flow* flow : {&connection.to_server, &connection.to_client}) {
          connection.broken |= connection.client.failed || connection.server.failed;
          if (connection.broken) break;
          connection.broken |= !receive(*flow, moved, next) || !deliver(*flow, moved, next);
        }
      }
      if (!moved) return next;
    }
    return now();  // look at the sockets again before going on
  }

  // Closes what has ended. Not while events are being taken: they point into connections.
  void sweep() {
    connections_.remove_if([](Connection& c) {
      if (!c.broken && !(c.to_server.ended && c.to_client.ended)) return false;
      for (Socket* socket : {&c.client, &c.server}) {
        if (c.broken)
          reset(socket->fd);
        else
          close(socket->fd);
      }
      return true;
    });
  }

  void accept_all() {
    while (listener_.readable) {
      int client = accept4(listener_.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (client < 0) {
        listener_.readable = errno == ECONNABORTED || errno == EINTR;
        continue;
      }
      tune(client);
      int server = new_socket(target_.bytes.ss_family);
      if (connect(server, target_.get(), target_.length) < 0 && errno != EINPROGRESS) {
        reset(client);
        close(server);
        continue;
      }
      accepted_++;
      auto& connection = connections_.emplace_back(client, server, &up_, &down_);
      watch(client, &connection.client, EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP);
      watch(server, &connection.server, EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP);
    }
  }

  // Reads once from the flow's sender onto the link. False: the connection is broken.
  bool receive(Flow& flow, bool& moved, Nanoseconds& next) {
    if (!flow.from->readable || flow.end_at != never) return true;
    if (shape_.plain() ? !flow.queue.empty() : flow.held >= shape_.max_held()) return true;
    Nanoseconds at = now();
    if (flow.link->free_at - at > shape_.max_backlog()) {
      next = std::min(next, flow.link->free_at - shape_.max_backlog());
      return true;
    }
    ssize_t got = recv(flow.from->fd, scratch_.data(), shape_.read_size(scratch_.size()), 0);
    if (got < 0) {
      if (errno == EINTR) return true;
      flow.from->readable = false;
      return errno == EAGAIN;
    }
    moved = true;
    if (got == 0) {
      flow.end_at = std::max(at, flow.link->free_at) + shape_.delay;
      return true;
    }
    size_t passed = 0;
    if (shape_.plain() && flow.to->writable) {
      ssize_t sent = send(flow.to->fd, scratch_.data(), size_t(got), MSG_NOSIGNAL);
      if (sent < 0 && errno != EAGAIN && errno != EINTR) return false;
      passed = sent < 0 ? 0 : size_t(sent);
      flow.to->writable = passed == size_t(got);
      flow.link->delivered += passed;
      if (passed == size_t(got)) return true;
    }
    Nanoseconds begin = std::max(at, flow.link->free_at);
    flow.link->free_at = begin + shape_.time_for(double(got));
    flow.queue.push_back({{scratch_.data() + passed, scratch_.data() + got}, 0, begin});
    flow.held += size_t(got) - passed;
    return true;
  }

  // Sends what has arrived at the flow's receiver. False: the connection is broken.
  bool deliver(Flow& flow, bool& moved, Nanoseconds& next) {
    while (!flow.queue.empty() && flow.to->writable) {
      Chunk& chunk = flow.queue.front();
      size_t arrived = arrived_of(chunk, *flow.link, next);
      if (arrived == chunk.sent) return true;
      ssize_t sent = send(flow.to->fd, chunk.bytes.data() + chunk.sent, arrived - chunk.sent,
                          MSG_NOSIGNAL);
      if (sent < 0) {
        if (errno == EINTR) continue;
        flow.to->writable = false;
        return errno == EAGAIN;
      }
      moved = true;
      chunk.sent += size_t(sent);
      flow.held -= size_t(sent);
      flow.link->delivered += uint64_t(sent);
      if (chunk.sent == chunk.bytes.size()) flow.queue.pop_front();
    }
    if (flow.queue.empty() && flow.end_at != never && !flow.ended && flow.to->writable) {
      if (!is_due(flow.end_at, true)) {
        wait_for(flow.end_at, true, next);
        return true;
      }
      shutdown(flow.to->fd, SHUT_WR);
      flow.ended = moved = true;
    }
    return true;
  }

  // How many bytes of the chunk have arrived; if not all, `next` is set to when it pays to ask.
  size_t arrived_of(const Chunk& chunk, const Link& link, Nanoseconds& next) {
    size_t size = chunk.bytes.size();
    Nanoseconds all = chunk.begin + shape_.time_for(double(size));
    bool last = all >= link.free_at;  // the end of a burst is what somebody waits for
    if (is_due(all + shape_.delay, last)) return size;
    double elapsed = double(now() - shape_.delay - chunk.begin);
    double arrived = std::max(0.0, elapsed * shape_.bytes_per_second / 1e9);
    double more = std::min(double(size), double(chunk.sent) + shape_.grain());
    if (arrived >= more) return std::min(size_t(arrived), size);
    wait_for(chunk.begin + shape_.time_for(more) + shape_.delay,
             last && more == double(size), next);
    return chunk.sent;
  }

  // Whether the time has come. An exact event that is only a moment away is waited for.
  bool is_due(Nanoseconds at, bool exact) const {
    Nanoseconds left = at - now();
    if (!exact || left > lead_) return left <= 0;
    while (now() < at) {
    }
    return true;
  }

  // An exact event is woken up for as much earlier as wake-ups have been late of late.
  void wait_for(Nanoseconds at, bool exact, Nanoseconds& next) const {
    next = std::min(next, exact ? at - lead_ : at);
  }

  void sleep_until(Nanoseconds at) {
    itimerspec when{};
    bool wait = at == never || at > now();
    if (wait && at != never) {
      when.it_value.tv_sec = at / 1'000'000'000;
      when.it_value.tv_nsec = at % 1'000'000'000;
    }
    if (wait) timerfd_settime(timer_, TFD_TIMER_ABSTIME, &when, nullptr);
    epoll_event events[64];
    int count = epoll_wait(epoll_, events, 64, wait ? -1 : 0);
    for (int i = 0; i < count; i++) take(events[i], at);
  }

  void take(const epoll_event& event, Nanoseconds timer_at) {
    if (event.data.ptr == &timer_) {
      uint64_t expirations;
      if (read(timer_, &expirations, sizeof expirations) > 0 && timer_at != never) {
        Nanoseconds late = std::clamp<Nanoseconds>(now() - timer_at, 0, max_lead);
        lead_ += (late - lead_) / 8;
      }
    } else if (event.data.ptr == &commands_) {
      obey();
    } else {
      auto* socket = static_cast<Socket*>(event.data.ptr);
      if (event.events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) socket->readable = true;
      if (event.events & EPOLLOUT) socket->writable = true;
      if (event.events & EPOLLERR) socket->failed = true;
    }
  }

  void obey() {
    char bytes[512];
    ssize_t got = read(STDIN_FILENO, bytes, sizeof bytes);
    if (got <= 0) exit(0);
    commands_.append(bytes, size_t(got));
    for (size_t end; (end = commands_.find('\n')) != std::string::npos; commands_.erase(0, end + 1))
      obey(commands_.substr(0, end));
  }

  void obey(const std::string& command) {
    if (command == "cut") cut_ = true;
    if (command == "restore") cut_ = false;
    if (command == "drop")
      for (auto& connection : connections_) connection.broken = true;
    printf("%llu %llu %llu %zu\n", static_cast<unsigned long long>(up_.delivered),
           static_cast<unsigned long long>(down_.delivered),
           static_cast<unsigned long long>(accepted_), connections_.size());
    fflush(stdout);
  }

  static void reset(int fd) {
    linger hard{1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(fd);
  }

  static constexpr Nanoseconds max_lead = 200'000;

  const Shape shape_;
  Address target_;
  std::vector<char> scratch_;
  int epoll_, timer_;
  Socket listener_;
  std::string commands_;
  std::list<Connection> connections_;
  Link up_, down_;
  uint64_t accepted_ = 0;
  Nanoseconds lead_ = 50'000;
  bool cut_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7) {
    fprintf(stderr, "usage: gvfs-relay HOST PORT TO_HOST TO_PORT DELAY_NS BYTES_PER_SECOND\n");
    return 2;
  }
  Shape shape{atoll(argv[5]), atof(argv[6])};
  Relay(argv[1], argv[2], argv[3], argv[4], shape).run();
}
