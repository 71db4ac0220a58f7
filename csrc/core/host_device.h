// Marks functions that nvcc compiles for both the host and the device.
#pragma once

#if defined(__CUDACC__)
#define FLOWMAP_HOST_DEVICE __host__ __device__
#else
#define FLOWMAP_HOST_DEVICE
#endif
