// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <thread>

#include "muster/comm/watchdog.h"
#include "muster/core/error.h"
#include "muster/core/file.h"

namespace muster::comm {
namespace {

sigset_t handled_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1, SIGUSR2}) sigaddset(&set, signal);
  return set;
}

core::UniqueFd checked_fd(int fd, const char* what) {
  if (fd < 0) throw core::CommError(std::string(what) + " failed: " + core::errno_text(errno));
  return core::UniqueFd(fd);
}

}  // namespace

void block_signals() {
  const sigset_t set = handled_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

struct SignalThread::Impl {
  core::UniqueFd signals, stop;
  std::function<void(int)> handler;
  std::thread thread;

  void run() {
    pollfd fds[] = {{signals.get(), POLLIN, 0}, {stop.get(), POLLIN, 0}};
    for (;;) {
      if (::poll(fds, 2, -1) < 0) continue;  // EINTR
      if (fds[1].revents != 0) return;
      signalfd_siginfo info{};
      if (::read(signals.get(), &info, sizeof info) == sizeof info) handler(static_cast<int>(info.ssi_signo));
    }
  }
};

SignalThread::SignalThread(std::function<void(int signal)> handler) : impl_(std::make_unique<Impl>()) {
  const sigset_t set = handled_signals();
  impl_->signals = checked_fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), "signalfd");
  impl_->stop = checked_fd(::eventfd(0, EFD_CLOEXEC), "eventfd");
  impl_->handler = std::move(handler);
  impl_->thread = std::thread([impl = impl_.get()] { impl->run(); });
}

SignalThread::~SignalThread() {
  const std::uint64_t one = 1;
  while (::write(impl_->stop.get(), &one, sizeof one) < 0 && errno == EINTR) {
  }
  impl_->thread.join();
}

}  // namespace muster::comm
