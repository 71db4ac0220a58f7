# libflowmap_cuda.so, where nvcc is found. nvcc is called directly, not as a CMake language: enabling that runs a test
# program, wants its own list of architectures and would stop the build of those who have half a toolkit.
set(FLOWMAP_CUDA AUTO CACHE STRING "Build the CUDA library: AUTO (where nvcc 13 is found), ON (or fail), OFF")
set(FLOWMAP_CUDA_TARGETS "80" CACHE STRING
  "Compute capabilities to compile kernels for; PTX is added for the newest one without a letter")
set(FLOWMAP_CUDA_ALL_TARGETS 80 86 89 90a 100 120)
if(FLOWMAP_CUDA STREQUAL "OFF")
  return()
endif()

find_program(FLOWMAP_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATH_SUFFIXES bin PATHS /usr/local/cuda)
set(lacking "")
if(NOT FLOWMAP_NVCC)
  set(lacking "nvcc was not found")
else()
  execute_process(COMMAND ${FLOWMAP_NVCC} --version OUTPUT_VARIABLE version ERROR_QUIET)
  string(REGEX MATCH "release ([0-9]+)\\.[0-9]+" version "${version}")
  if(NOT CMAKE_MATCH_1 EQUAL 13)
    set(lacking "${FLOWMAP_NVCC} is of CUDA '${version}', 13 is needed")
  endif()
endif()
if(lacking)
  if(FLOWMAP_CUDA STREQUAL "ON")
    message(FATAL_ERROR "flowmap: FLOWMAP_CUDA is ON and ${lacking}")
  endif()
  message(STATUS "flowmap: no CUDA library, ${lacking}")
  return()
endif()
message(STATUS "flowmap: CUDA library with ${FLOWMAP_NVCC}")

file(GLOB FLOWMAP_CUDA_SOURCES CONFIGURE_DEPENDS csrc/cuda/*.cu csrc/cuda/*.cc csrc/cuda/*/*.cu csrc/cuda/*/*.cc)

set(FLOWMAP_NVCC_FLAGS -std=c++20 -O3 -lineinfo --expt-relaxed-constexpr --extended-lambda -ccbin ${CMAKE_CXX_COMPILER}
  -I ${CMAKE_SOURCE_DIR}/csrc -I ${CMAKE_BINARY_DIR}/generated
  -Xcompiler -fPIC,-fvisibility=hidden,-fvisibility-inlines-hidden,-Wall,-Wextra,-Wno-unused-parameter,-Wno-missing-field-initializers)
separate_arguments(environment UNIX_COMMAND "$ENV{CXXFLAGS}")
foreach(flag ${environment})
  list(APPEND FLOWMAP_NVCC_FLAGS -Xcompiler ${flag})
endforeach()

# nvcc's flags and the names of `targets` and PTX for the newest one without a letter. Kernels of a `*_cluster.cu` need 9.0:
# they are left out of older targets, and always have PTX, which the driver compiles where no target fits. Those of a
# `*_hopper.cu` are for 9.0 alone (wgmma, setmaxnreg): always its target with an `a`, and its PTX, which the emulator reads.
# nvcc's -arch=sm_90a would make a plain compute_90 too and fail: only -gencode does what is meant.
function(flowmap_cuda_gencode targets source flags names)
  if(source MATCHES "_hopper\\.cu$")
    set(${flags} -gencode arch=compute_90a,code=sm_90a -gencode arch=compute_90a,code=compute_90a PARENT_SCOPE)
    set(${names} "sm_90a compute_90a" PARENT_SCOPE)
    return()
  endif()
  set(least 0)
  set(newest 0)
  if(source MATCHES "_cluster\\.cu$")
    set(least 90)
    set(newest 90)
  endif()
  set(gencode "")
  set(made "")
  foreach(target ${targets})
    string(REGEX MATCH "^[0-9]+" number ${target})
    if(number LESS least)
      continue()
    endif()
    list(APPEND gencode -gencode arch=compute_${target},code=sm_${target})
    list(APPEND made sm_${target})
    if(target STREQUAL number AND number GREATER newest)
      set(newest ${number})
    endif()
  endforeach()
  if(newest GREATER 0)
    list(APPEND gencode -gencode arch=compute_${newest},code=compute_${newest})
    list(APPEND made compute_${newest})
  endif()
  list(JOIN made " " made)
  set(${flags} ${gencode} PARENT_SCOPE)
  set(${names} ${made} PARENT_SCOPE)
endfunction()

# Compiles all sources for `targets` into `folder`, beside each object what ptxas says of its kernels; gives the objects. More
# arguments are flags.
function(flowmap_cuda_objects targets folder objects)
  set(made "")
  foreach(source ${FLOWMAP_CUDA_SOURCES})
    flowmap_cuda_gencode("${targets}" ${source} gencode names)
    file(RELATIVE_PATH stem ${CMAKE_SOURCE_DIR}/csrc/cuda ${source})
    set(object ${folder}/${stem}.o)
    get_filename_component(place ${object} DIRECTORY)
    file(MAKE_DIRECTORY ${place})
    add_custom_command(OUTPUT ${object}
      COMMAND ${CMAKE_COMMAND} -DREPORT=${object}.ptxas -P ${CMAKE_SOURCE_DIR}/cmake/report_ptxas.cmake --
        ${FLOWMAP_NVCC} ${FLOWMAP_NVCC_FLAGS} ${ARGN} ${gencode} "-DFLOWMAP_CUDA_TARGETS=\"${names}\""
        -MD -MF ${object}.d -MT ${object} -c ${source} -o ${object}
      DEPENDS ${source} ${CMAKE_BINARY_DIR}/generated/build_identity.h
      DEPFILE ${object}.d
      COMMENT "Compiling csrc/cuda/${stem} for ${names}"
      VERBATIM)
    list(APPEND made ${object})
  endforeach()
  set(${objects} ${made} PARENT_SCOPE)
endfunction()

# cudart static, its symbols hidden. Never unloaded: its threads may still be in it when the process ends.
function(flowmap_cuda_link name library cudart objects)
  get_filename_component(place ${library} DIRECTORY)
  file(MAKE_DIRECTORY ${place})
  add_custom_command(OUTPUT ${library}
    COMMAND ${FLOWMAP_NVCC} -shared -cudart ${cudart} -ccbin ${CMAKE_CXX_COMPILER} ${objects} -o ${library}
      -Xlinker --no-undefined,--exclude-libs,ALL,-Bsymbolic,-z,nodelete,-soname,libflowmap_cuda.so
    DEPENDS ${objects}
    COMMENT "Linking ${name}"
    VERBATIM)
endfunction()

# The emulator reads PTX as it is.
flowmap_cuda_objects("${FLOWMAP_CUDA_TARGETS}" ${CMAKE_BINARY_DIR}/cuda FLOWMAP_CUDA_OBJECTS -Xfatbin --compress=false)
# Beside the addon, wherever its generator puts that.
if(CMAKE_LIBRARY_OUTPUT_DIRECTORY_RELEASE)
  set(FLOWMAP_ADDON_FOLDER ${CMAKE_LIBRARY_OUTPUT_DIRECTORY_RELEASE})
elseif(CMAKE_LIBRARY_OUTPUT_DIRECTORY)
  set(FLOWMAP_ADDON_FOLDER ${CMAKE_LIBRARY_OUTPUT_DIRECTORY})
else()
  set(FLOWMAP_ADDON_FOLDER ${CMAKE_BINARY_DIR})
endif()
set(FLOWMAP_CUDA_LIBRARY ${FLOWMAP_ADDON_FOLDER}/libflowmap_cuda.so)
flowmap_cuda_link("the CUDA library" ${FLOWMAP_CUDA_LIBRARY} static "${FLOWMAP_CUDA_OBJECTS}")

# The same objects for the emulator of the tests, which stands in for the runtime library.
set(FLOWMAP_CUDA_EMULATED ${CMAKE_BINARY_DIR}/cuda-emulated/libflowmap_cuda.so)
flowmap_cuda_link("the CUDA library for the emulator" ${FLOWMAP_CUDA_EMULATED} shared "${FLOWMAP_CUDA_OBJECTS}")
# And a runtime that fails, which test/devices/failure.test.ts puts before the emulated one.
set(FLOWMAP_FAILING_RUNTIME ${CMAKE_BINARY_DIR}/cuda-emulated/failing_runtime.so)
add_custom_command(OUTPUT ${FLOWMAP_FAILING_RUNTIME}
  COMMAND ${FLOWMAP_NVCC} -std=c++20 -shared -cudart none -ccbin ${CMAKE_CXX_COMPILER} -Xcompiler -fPIC
    ${CMAKE_SOURCE_DIR}/test/cuda/failing_runtime.cc -o ${FLOWMAP_FAILING_RUNTIME}
  DEPENDS test/cuda/failing_runtime.cc test/cuda/simt/runtime/library.h
  VERBATIM)
add_custom_target(flowmap_cuda ALL DEPENDS ${FLOWMAP_CUDA_LIBRARY} ${FLOWMAP_CUDA_EMULATED} ${FLOWMAP_FAILING_RUNTIME})

# The emulator itself (test/cuda/simt), where this clone has it.
if(TARGET simt_cudart)
  add_dependencies(flowmap_cuda simt_cudart simt_cublas)
endif()

# What a prebuild carries, made on demand: every target.
flowmap_cuda_objects("${FLOWMAP_CUDA_ALL_TARGETS}" ${CMAKE_BINARY_DIR}/cuda-prebuild/objects FLOWMAP_CUDA_PREBUILD_OBJECTS)
flowmap_cuda_link("the CUDA library for every target" ${CMAKE_BINARY_DIR}/cuda-prebuild/libflowmap_cuda.so static
  "${FLOWMAP_CUDA_PREBUILD_OBJECTS}")
add_custom_target(flowmap_cuda_prebuild DEPENDS ${CMAKE_BINARY_DIR}/cuda-prebuild/libflowmap_cuda.so)
