// SPDX-License-Identifier: Apache-2.0
#include "phases/train/training_set.h"

#include <fmt/format.h>

#include <atomic>
#include <cstring>
#include <exception>
#include <thread>

#include "muster/core/error.h"
#include "phases/runner/packing.h"

namespace muster::phases {
namespace {

constexpr std::size_t kWindowBytes = std::size_t{16} << 20;
constexpr std::size_t kDocumentsAtATime = 16;  // that a tokenizing thread takes

struct Tokens {
  std::vector<std::uint32_t> ids;
  bool truncated = false;
};

// Runs `work(i)` for all i below `count` on several threads; the first error is thrown again.
void on_threads(int threads, std::size_t count, const std::function<void(std::size_t)>& work) {
  std::atomic<std::size_t> next{0};
  std::exception_ptr error;
  std::mutex mutex;
  const auto loop = [&] {
    try {
      for (std::size_t i; (i = next.fetch_add(kDocumentsAtATime)) < count;)
        for (std::size_t k = i; k < std::min(i + kDocumentsAtATime, count); ++k) work(k);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
    }
  };
  std::vector<std::thread> team;
  for (int i = 1; i < threads && static_cast<std::size_t>(i) * kDocumentsAtATime < count; ++i)
    team.emplace_back(loop);
  loop();
  for (auto& thread : team) thread.join();
  if (error) std::rethrow_exception(error);
}

template <class T>
void put(std::string& blob, const T& value) {
  blob.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <class T>
T take(const char*& at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  at += sizeof value;
  return value;
}

void put_list(std::string& blob, const std::vector<std::int32_t>& list) {
  put(blob, static_cast<std::uint32_t>(list.size()));
  blob.append(reinterpret_cast<const char*>(list.data()), list.size() * sizeof(std::int32_t));
}

std::vector<std::int32_t> take_list(const char*& at) {
  std::vector<std::int32_t> list(take<std::uint32_t>(at));
  std::memcpy(list.data(), at, list.size() * sizeof(std::int32_t));
  at += list.size() * sizeof(std::int32_t);
  return list;
}

}  // namespace

double TrainingSet::bytes() const {
  double bytes = static_cast<double>(ids_.size()) * sizeof(std::uint32_t) +
                 static_cast<double>(size()) *
                     (sizeof(std::uint32_t) + 2 * sizeof(std::uint64_t) + sizeof(LabelledTargets));
  for (const auto& label : labels_)
    bytes += static_cast<double>(label.targets.positives.size() + label.targets.ignored.size()) * 4;
  return bytes;
}

/// The work of load_training_set, window by window.
class TrainingSetLoader {
 public:
  TrainingSetLoader(comm::Communicator& world, const LoadTrainingSet& how) : world_(world), how_(how) {
    if (world_.is_root()) items_ = std::make_unique<AcceptedItems>(how.input, how.survey);
  }

  TrainingSet load() {
    for (;;) {
      how_.begins(fmt::format("tokenizing behind document {}", set_.size()));
      std::vector<std::string> shares;
      comm::collectively(world_, [&] { shares = read_window(); });
      const auto count = world_.broadcast_value(static_cast<std::uint64_t>(pending_.size()));
      if (count == 0) return std::move(set_);
      tokenize_window(shares);
      spread_labels();
    }
  }

 private:
  // Rank 0: about kWindowBytes of text, cut into one share a rank.
  std::vector<std::string> read_window() {
    std::vector<std::string> shares;
    pending_.clear();
    if (!world_.is_root()) return shares;
    std::vector<std::string> texts;
    std::size_t bytes = 0;
    LabelledTargets targets;
    while (bytes < kWindowBytes && items_->next(item_)) {
      if (!how_.targets(item_.id, targets)) continue;
      pending_.push_back({item_.row, std::move(targets)});
      bytes += item_.text.size();
      texts.push_back(std::move(item_.text));
    }
    shares.resize(static_cast<std::size_t>(world_.size()));
    std::size_t sent = 0, share = 0;
    for (std::size_t i = 0; i < texts.size(); ++i) {
      while (share + 1 < shares.size() && sent * shares.size() >= bytes * (share + 1)) ++share;
      pack_text(shares[share], i, texts[i]);
      sent += texts[i].size();
    }
    return shares;
  }

  void tokenize_window(const std::vector<std::string>& shares) {
    const std::string mine = world_.scatter_strings(shares);
    const auto texts = unpack_texts(mine);
    std::vector<Tokens> tokens(texts.size());
    std::string blob;
    comm::collectively(world_, [&] {
      on_threads(how_.threads, texts.size(), [&](std::size_t i) {
        tokens[i].truncated = how_.tokenize(std::string(texts[i].text), tokens[i].ids);
      });
      for (const auto& token : tokens) {
        put(blob, static_cast<std::uint32_t>(token.ids.size()));
        put(blob, static_cast<std::uint32_t>(token.truncated));
        blob.append(reinterpret_cast<const char*>(token.ids.data()),
                    token.ids.size() * sizeof(std::uint32_t));
      }
    });
    std::string all;
    for (const auto& part : world_.gather_strings(blob)) all += part;
    all = world_.broadcast_string(all);
    const char* at = all.data();
    while (at < all.data() + all.size()) {
      const auto length = take<std::uint32_t>(at);
      set_.truncated_ += take<std::uint32_t>(at);
      const std::size_t begin = set_.ids_.size();
      set_.begins_.push_back(begin);
      set_.lengths_.push_back(length);
      set_.ids_.resize(begin + length);
      std::memcpy(set_.ids_.data() + begin, at, length * sizeof(std::uint32_t));
      at += length * sizeof(std::uint32_t);
    }
  }

  void spread_labels() {
    std::string blob;
    for (const auto& [row, label] : pending_) {
      put(blob, row);
      put(blob, label.weight);
      put_list(blob, label.targets.positives);
      put_list(blob, label.targets.ignored);
    }
    blob = world_.broadcast_string(blob);
    const char* at = blob.data();
    while (at < blob.data() + blob.size()) {
      set_.rows_.push_back(take<std::uint64_t>(at));
      LabelledTargets label;
      label.weight = take<float>(at);
      label.targets.positives = take_list(at);
      label.targets.ignored = take_list(at);
      set_.labels_.push_back(std::move(label));
    }
    core::internal_check(set_.labels_.size() == set_.lengths_.size(), "documents and labels do not match");
  }

  comm::Communicator& world_;
  const LoadTrainingSet& how_;
  std::unique_ptr<AcceptedItems> items_;
  formats::Item item_;
  std::vector<std::pair<std::uint64_t, LabelledTargets>> pending_;  ///< rank 0: of the window
  TrainingSet set_;
};

TrainingSet load_training_set(comm::Communicator& world, const LoadTrainingSet& how) {
  return TrainingSetLoader(world, how).load();
}

}  // namespace muster::phases
