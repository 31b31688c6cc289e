#include "work_queue.h"

#include <pthread.h>

#include <thread>
#include <utility>

namespace gvfs {

WorkQueue::WorkQueue(size_t threads) {
  state_->running = threads;
  for (size_t i = 0; i < threads; i++) {
    std::thread thread([state = state_] { Run(state); });
    pthread_setname_np(thread.native_handle(), "gvfs-io");
    thread.detach();  // `running` is what Stop waits for
  }
}

WorkQueue::~WorkQueue() { Stop(std::chrono::milliseconds(0)); }

void WorkQueue::Add(std::function<void()> work, int key) {
  {
    std::lock_guard<std::mutex> lock(state_->mutex);
    if (state_->stopping) return;
    Job job{std::move(work), key};
    if (key != kNoKey) {
      const auto [found, first] = state_->behind.try_emplace(key);
      if (!first) {
        found->second.push_back(std::move(job));
        return;
      }
    }
    state_->jobs.push_back(std::move(job));
  }
  state_->wake.notify_one();
}

bool WorkQueue::Stop(std::chrono::milliseconds limit) {
  std::unique_lock<std::mutex> lock(state_->mutex);
  state_->stopping = true;
  state_->jobs.clear();
  state_->behind.clear();
  state_->wake.notify_all();
  return state_->idle.wait_for(lock, limit, [this] { return state_->running == 0; });
}

void WorkQueue::Run(const std::shared_ptr<State>& state) {
  std::unique_lock<std::mutex> lock(state->mutex);
  for (;;) {
    state->wake.wait(lock, [&] { return state->stopping || !state->jobs.empty(); });
    if (state->stopping) break;
    Job job = std::move(state->jobs.front());
    state->jobs.pop_front();
    lock.unlock();
    job.work();
    job.work = nullptr;  // what the job holds is dropped outside the lock
    lock.lock();
    const auto behind = state->behind.find(job.key);
    if (behind == state->behind.end()) continue;
    // Last in the row, so that one key does not keep the others waiting; this thread goes on.
    if (behind->second.empty()) {
      state->behind.erase(behind);
    } else {
      state->jobs.push_back(std::move(behind->second.front()));
      behind->second.pop_front();
    }
  }
  state->running--;
  state->idle.notify_all();
}

}  // namespace gvfs
