// Prints the device, then every case. The same program runs on a GPU and on the emulator.
#include "record.cuh"

int main() {
  conformance::recordDevice();
  conformance::recordCopies();
  conformance::recordTiles();
  conformance::recordProducts();
  conformance::recordBarriers();
  return 0;
}
