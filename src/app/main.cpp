// SPDX-License-Identifier: Apache-2.0
#include "app/program.h"

int main(int argc, char** argv) {
  return muster::app::run_program(argc, argv, muster::phases::all_phases());
}
