// SPDX-License-Identifier: Apache-2.0
// Linked into sanitized programs: what the sanitizers' runtimes ask for by these names.
#include <dlfcn.h>

/// Open MPI unloads its plugins in MPI_Finalize, and what they never freed could then not be told from a leak
/// of ours.
extern "C" int dlclose(void*) {
  return 0;
}

extern "C" const char* __asan_default_options() {
  return "detect_leaks=1:strict_string_checks=1:exitcode=99";  // a code that no test expects
}

extern "C" const char* __ubsan_default_options() {
  return "print_stacktrace=1:exitcode=99";
}

extern "C" const char* __lsan_default_options() {
  return "print_suppressions=0";  // tests read what programs print
}

extern "C" const char* __lsan_default_suppressions() {
  return "leak:libmpi.so\n"
         "leak:libopen-pal.so\n"
         "leak:libpmix\n"
         "leak:libhwloc\n"
         "leak:/mca_\n"
         "leak:vasprintf\n";  // theirs, too: ours is fmt
}
