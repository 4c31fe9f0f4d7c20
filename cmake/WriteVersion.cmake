# SPDX-License-Identifier: Apache-2.0
# Runs at every build: writes version.cpp with the commit, and leaves the file alone when nothing changed.
execute_process(COMMAND git -C ${SOURCE_DIR} describe --always --dirty --abbrev=12 --exclude=*
  OUTPUT_VARIABLE MUSTER_COMMIT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT MUSTER_COMMIT)
  set(MUSTER_COMMIT unknown)
endif()
configure_file(${SOURCE_DIR}/src/phases/version.cpp.in ${OUTPUT} @ONLY)
