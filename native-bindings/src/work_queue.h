// Jobs that may wait for a disk or for the kernel, on threads of their own, in order of arrival.
//
// Jobs of one key run one after the other, in order, and take one thread at a time.
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
#include <unordered_map>

namespace gvfs {

class WorkQueue {
 public:
  explicit WorkQueue(size_t threads);
  ~WorkQueue();
  WorkQueue(const WorkQueue&) = delete;
  WorkQueue& operator=(const WorkQueue&) = delete;

  static constexpr int kNoKey = -1;

  void Add(std::function<void()> job, int key = kNoKey);

  // Drops what has not begun, and waits for what has; false when that took longer than `limit`.
  bool Stop(std::chrono::milliseconds limit);

 private:
  struct Job {
    std::function<void()> work;
    int key;
  };
  struct State {
    std::mutex mutex;
    std::condition_variable wake;
    std::condition_variable idle;
    std::deque<Job> jobs;
    // By key of a job that is queued or running: those that wait for it.
    std::unordered_map<int, std::deque<Job>> behind;
    size_t running = 0;
    bool stopping = false;
  };

  static void Run(const std::shared_ptr<State>& state);

  std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace gvfs
