// Jobs that may wait for a disk or for the kernel, on threads of their own, in order of arrival.
//
// A job runs once, or never when the queue is stopped before its turn. The queue's state is shared
// with its threads: one that hangs in the kernel at the end is left behind without harm.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

namespace gvfs {

class WorkQueue {
 public:
  explicit WorkQueue(size_t threads);
  ~WorkQueue();
  WorkQueue(const WorkQueue&) = delete;
  WorkQueue& operator=(const WorkQueue&) = delete;

  void Add(std::function<void()> job);

  // Drops what has not begun, and waits for what has; false when that took longer than `limit`.
  bool Stop(std::chrono::milliseconds limit);

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable wake;
    std::condition_variable idle;
    std::deque<std::function<void()>> jobs;
    size_t running = 0;
    bool stopping = false;
  };

  static void Run(const std::shared_ptr<State>& state);

  std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace gvfs
