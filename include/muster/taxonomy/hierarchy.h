// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace muster::taxonomy {

using ClassId = std::int32_t;

/// parent -> child, and where it was read, for messages.
struct Edge {
  ClassId parent = 0;
  ClassId child = 0;
  std::uint64_t line = 0;
};

/// Classes 0 .. size-1 as a directed acyclic graph; classes without a parent are roots, several parents are
/// allowed.
class Hierarchy {
 public:
  Hierarchy() = default;
  /// A flat one: every class is a root.
  explicit Hierarchy(std::size_t classes);
  /// DataError with the lines concerned when an edge names a class that is not there, joins a class to
  /// itself, or closes a cycle (the cycle is spelled out), all at once; `source` is the file's name in
  /// messages. Doubled edges count once; parents and children are sorted.
  Hierarchy(std::size_t classes, std::span<const Edge> edges, const std::string& source);

  std::size_t size() const { return parents_.size(); }
  std::span<const ClassId> parents(ClassId id) const { return parents_[static_cast<std::size_t>(id)]; }
  std::span<const ClassId> children(ClassId id) const { return children_[static_cast<std::size_t>(id)]; }
  std::span<const ClassId> roots() const { return roots_; }
  /// All classes above, through every parent, sorted, without the class itself; descendants likewise.
  std::span<const ClassId> ancestors(ClassId id) const { return ancestors_[static_cast<std::size_t>(id)]; }
  std::span<const ClassId> descendants(ClassId id) const {
    return descendants_[static_cast<std::size_t>(id)];
  }
  /// The classes and all their ancestors, sorted, once each.
  std::vector<ClassId> closure(std::span<const ClassId> classes) const;
  /// Edges of the longest way from a root; 0 for roots.
  int depth(ClassId id) const { return depth_[static_cast<std::size_t>(id)]; }

 private:
  std::vector<std::vector<ClassId>> parents_, children_, ancestors_, descendants_;
  std::vector<ClassId> roots_;
  std::vector<int> depth_;
};

}  // namespace muster::taxonomy
