# Toolchain file: Debian's cross compiler for ppc64le, and qemu-user for what it makes.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR ppc64le)
set(CMAKE_C_COMPILER powerpc64le-linux-gnu-gcc)
set(CMAKE_C_FLAGS_INIT -mcpu=power8)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-ppc64le -cpu POWER8) # nothing newer than the S824 of the papers
