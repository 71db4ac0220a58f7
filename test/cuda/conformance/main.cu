// Prints the device, then every case. The same program runs on a GPU and on the emulator.
#include "record.cuh"

int main() {
  cudaDeviceProp properties;
  conformance::check(cudaGetDeviceProperties(&properties, 0));
  std::printf("{\"device\": \"%s\", \"capability\": \"%d.%d\"}\n", properties.name, properties.major, properties.minor);
  conformance::recordCopies();
  conformance::recordTiles();
  conformance::recordProducts();
  conformance::recordBarriers();
  return 0;
}
