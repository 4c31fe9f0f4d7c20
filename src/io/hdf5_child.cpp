// SPDX-License-Identifier: Apache-2.0
#include "io/hdf5_child.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>

#include "io/hdf5_handles.h"
#include "io/hdf5_strings.h"
#include "muster/core/error.h"

namespace muster::io {
namespace {

constexpr int kSilenceMilliseconds = 120'000;  ///< a child that sends nothing for so long is stuck
constexpr std::uint32_t kMaxTextBytes = std::uint32_t{256} << 20;
constexpr std::uint64_t kExtraMemory = std::uint64_t{4} << 30;
constexpr std::size_t kPipeBytes = std::size_t{1} << 16;
constexpr std::uint64_t kRowsAtOnce = 1024;

/// What the child sends: a tag, then for kRow two texts, for kError one, for kStart a byte (has ids).
enum class Tag : char { kStart = 'S', kRow = 'R', kError = 'E', kEnd = '.' };

/// The child's end of the pipe. When nobody reads any more there is nothing left to do.
class Sender {
 public:
  explicit Sender(int fd) : fd_(fd) {}
  void tag(Tag tag) { buffer_ += static_cast<char>(tag); }
  void byte(bool value) { buffer_ += value ? '\1' : '\0'; }
  void text(std::string_view text) {
    const auto size = static_cast<std::uint32_t>(text.size());
    buffer_.append(reinterpret_cast<const char*>(&size), sizeof(size));
    buffer_ += text;
    if (buffer_.size() >= kPipeBytes) send();
  }
  void send() {
    std::string_view rest = buffer_;
    while (!rest.empty()) {
      const ssize_t n = ::write(fd_, rest.data(), rest.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) ::_exit(0);
      rest.remove_prefix(static_cast<std::size_t>(n));
    }
    buffer_.clear();
  }

 private:
  int fd_;
  std::string buffer_;
};

std::uint64_t address_space_bytes() {
  std::ifstream file("/proc/self/statm");
  std::uint64_t pages = 0;
  file >> pages;
  return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

void set_limit(__rlimit_resource resource, std::uint64_t value) {
  rlimit limit{};
  ::getrlimit(resource, &limit);
  limit.rlim_cur = std::min<rlim_t>(value, limit.rlim_max);
  ::setrlimit(resource, &limit);
}

pid_t reader_pid = 0;  // the child's parent

void exit_without_reader(int) {
  if (::getppid() != reader_pid) ::_exit(0);
}

/// Even a child that is stuck in the library ends soon after its rank.
void watch_reader(pid_t reader) {
  reader_pid = reader;
  struct sigaction action {};
  action.sa_handler = exit_without_reader;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGALRM, &action, nullptr);
  const itimerval every_second{.it_interval = {1, 0}, .it_value = {1, 0}};
  ::setitimer(ITIMER_REAL, &every_second, nullptr);
}

/// The child is a copy of a rank: it must not hold the rank's locks and sockets, not print a stack trace
/// under the rank's name and not outgrow it.
void confine(int output) {
  for (const int signal : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGPIPE}) ::signal(signal, SIG_DFL);
  const int null = ::open("/dev/null", O_RDWR);
  for (const int fd : {0, 1, 2}) ::dup2(null, fd);
  ::dup2(output, 3);
  ::syscall(SYS_close_range, 4U, ~0U,
            0U);  // fails on kernels before 5.9; the files are then only kept open longer
  set_limit(RLIMIT_CORE, 0);
  set_limit(RLIMIT_AS, address_space_bytes() + kExtraMemory);
}

std::uint64_t row_count(hid_t dataset, const std::string& what) {
  const h5::Space space(H5Dget_space(dataset));
  if (!space) h5::throw_data("read the shape of", what);
  const auto points = H5Sget_simple_extent_npoints(space.get());
  if (points < 0) h5::throw_data("read the shape of", what);
  return static_cast<std::uint64_t>(points);
}

h5::Dataset open_column(hid_t file, const std::string& column, const std::string& path) {
  return h5::owned_data<h5::Dataset>(
      H5Dopen2(file, column.c_str(), H5P_DEFAULT),
      "open dataset '" + column + "' (input.id and input.text name the datasets) of", path);
}

void send_rows(Sender& sender, const std::string& path, const std::string& id_column,
               const std::string& text_column) {
  const auto access = h5::serial_access();
  const auto file =
      h5::owned_data<h5::File>(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()), "open", path);
  const auto texts = open_column(file.get(), text_column, path);
  const auto text_name = text_column + " of " + path, id_name = id_column + " of " + path;
  const auto rows = row_count(texts.get(), text_name);
  h5::Dataset ids;
  if (!id_column.empty() && H5Lexists(file.get(), id_column.c_str(), H5P_DEFAULT) > 0) {
    ids = open_column(file.get(), id_column, path);
    if (const auto id_rows = row_count(ids.get(), id_name); id_rows != rows) {
      throw core::DataError(
          fmt::format("{}: '{}' has {} rows and '{}' has {}", path, id_column, id_rows, text_column, rows));
    }
  }
  sender.tag(Tag::kStart);
  sender.byte(static_cast<bool>(ids));
  std::vector<std::string> part;
  for (std::uint64_t done = 0; done < rows; done += kRowsAtOnce) {
    const auto count = std::min(kRowsAtOnce, rows - done);
    part.clear();
    if (ids)
      h5::for_each_string(ids.get(), done, count, id_name,
                          [&](std::string_view id) { part.emplace_back(id); });
    part.resize(count);
    std::size_t i = 0;
    h5::for_each_string(texts.get(), done, count, text_name, [&](std::string_view text) {
      if (text.size() > kMaxTextBytes)
        throw core::DataError(fmt::format("{}: row {} is too long", text_name, done + i));
      sender.tag(Tag::kRow);
      sender.text(part[i++]);
      sender.text(text);
    });
  }
  sender.tag(Tag::kEnd);
  sender.send();
}

}  // namespace

H5Child::H5Child(const std::string& path, const std::string& id_column, const std::string& text_column)
    : path_(path) {
  core::open_for_reading(path);  // the usual errors in the usual words
  h5::start_library();           // here: its first start talks to MPI, which a child must not
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    throw core::ResourceError(
        fmt::format("cannot make a pipe to read {}: {}", path, core::errno_text(errno)));
  }
  pipe_ = core::UniqueFd(ends[0]);
  core::UniqueFd output(ends[1]);
  const pid_t reader = ::getpid();
  child_.pid = ::fork();
  if (child_.pid < 0)
    throw core::ResourceError(fmt::format("cannot fork to read {}: {}", path, core::errno_text(errno)));
  if (child_.pid == 0) run(output.get(), reader, id_column, text_column);
  output.close();
  Tag first{};
  receive(&first, 1);
  if (first == Tag::kError) {
    std::string text;
    receive_text(text);
    throw core::DataError(text);
  }
  if (first != Tag::kStart) fail_dead();
  receive(&has_ids_, 1);
}

void H5Child::run(int output, pid_t reader, const std::string& id_column,
                  const std::string& text_column) const {
  // Nothing may leave this function: the rank's destructors are not the child's to run.
  try {
    watch_reader(reader);
    confine(output);
    Sender sender(3);
    try {
      send_rows(sender, path_, id_column, text_column);
    } catch (const std::exception& error) {
      sender.tag(Tag::kError);
      sender.text(error.what());
      sender.send();
    }
  } catch (...) {
    ::_exit(1);
  }
  ::_exit(0);
}

int H5Child::Process::end() noexcept {
  int status = 0;
  if (pid <= 0) return status;
  ::kill(pid, SIGKILL);
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  pid = -1;
  return status;
}

void H5Child::fail_dead() {
  const int status = child_.end();
  const auto how = WIFSIGNALED(status)
                       ? fmt::format("the HDF5 library crashed or hung on it (signal {})", WTERMSIG(status))
                       : std::string("reading it ended early");
  throw core::DataError(fmt::format("{} is damaged: {}; try h5dump on it, or make it again", path_, how));
}

void H5Child::receive(void* out, std::size_t bytes) {
  auto* target = static_cast<char*>(out);
  while (bytes > 0) {
    if (used_ == buffer_.size()) {
      pollfd wait{.fd = pipe_.get(), .events = POLLIN, .revents = 0};
      const int ready = ::poll(&wait, 1, kSilenceMilliseconds);
      if (ready < 0 && errno == EINTR) continue;
      buffer_.resize(kPipeBytes);
      const ssize_t n = ready > 0 ? ::read(pipe_.get(), buffer_.data(), buffer_.size()) : 0;
      if (n <= 0) fail_dead();
      buffer_.resize(static_cast<std::size_t>(n));
      used_ = 0;
    }
    const auto part = std::min(bytes, buffer_.size() - used_);
    std::memcpy(target, buffer_.data() + used_, part);
    used_ += part;
    target += part;
    bytes -= part;
  }
}

void H5Child::receive_text(std::string& out) {
  std::uint32_t size = 0;
  receive(&size, sizeof(size));
  if (size > kMaxTextBytes) fail_dead();  // a child whose memory is damaged
  out.resize(size);
  receive(out.data(), size);
}

bool H5Child::next(H5Row& row) {
  if (finished_) return false;
  Tag tag{};
  receive(&tag, 1);
  switch (tag) {
    case Tag::kRow:
      receive_text(row.id);
      receive_text(row.text);
      return true;
    case Tag::kEnd:
      finished_ = true;
      return false;
    case Tag::kError: {
      std::string text;
      receive_text(text);
      throw core::DataError(text);
    }
    case Tag::kStart:
      break;
  }
  fail_dead();
}

}  // namespace muster::io
