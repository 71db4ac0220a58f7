// mbarriers and what goes with them, by the ISA's definitions.
#include "../../conformance/hopper_barrier.cuh"

#include "cluster_launch.cuh"

using namespace hopper_kernels;
using selftest::ClusterLaunch;
using selftest::Device;

namespace {

template <bool Tests>
bool runRing() {
  std::vector<int> in(7 * 32);
  for (size_t i = 0; i < in.size(); ++i) in[i] = int(i * i % 101);
  Device<int> source(in), out(32);
  ring<Tests><<<1, 64>>>(source.data, out.data);
  const std::vector<int> got = out.read();
  bool right = true;
  for (int lane = 0; lane < 32; ++lane) {
    int sum = 0;
    for (int round = 0; round < 7; ++round) sum = sum * 3 + in[32 * round + 31 - lane];
    right &= got[lane] == sum;
  }
  return right;
}

bool runCounts() {
  Device<int> out(10);
  counts<<<1, 1>>>(out.data);
  return out.read() == std::vector<int>{0, 1, 1, 0, 0, 1, 0, 1, 1, 1};
}

template <bool Relaxed>
bool runRemote() {
  Device<int> out(64);
  ClusterLaunch{2, 32, 2}(remote<Relaxed>, out.data);
  const std::vector<int> got = out.read();
  bool right = true;
  for (int i = 0; i < 64; ++i) right &= got[i] == 100 * (1 - i / 32) + 31 - i % 32;
  return right;
}

bool runRoles() {
  Device<int> out(1);
  roles<<<1, 384>>>(out.data);
  return out.read()[0] == 12;
}

}  // namespace

int main(int count, char** arguments) {
  return selftest::runCases({{"ring", runRing<false>},
                             {"ringTests", runRing<true>},
                             {"counts", runCounts},
                             {"remote", runRemote<false>},
                             {"remoteRelaxed", runRemote<true>},
                             {"roles", runRoles}},
                            count, arguments);
}
