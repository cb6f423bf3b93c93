# Tools and no tests: times on a machine that does other work prove nothing. By hand, on a quiet one:
#     python3 tests/bandwidth/compare.py BUILD/coffer BUILD/tests/stream_sum THREADS
#     BUILD/tests/product_rate THREADS [ISA [TYPE]]
# roofline.py draws the figure of node/kernels/README.md from what product_rate prints.
find_package(Threads REQUIRED)
add_executable(stream_sum ${CMAKE_CURRENT_LIST_DIR}/stream_sum.c)
target_include_directories(stream_sum PRIVATE ${PROJECT_SOURCE_DIR})
target_link_libraries(stream_sum PRIVATE Threads::Threads)

add_executable(product_rate ${CMAKE_CURRENT_LIST_DIR}/product_rate.c)
target_include_directories(product_rate PRIVATE ${PROJECT_SOURCE_DIR})
target_link_libraries(product_rate PRIVATE coffer_node_kernels Threads::Threads)

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  target_compile_options(stream_sum PRIVATE -march=native -mprefer-vector-width=512)
  target_compile_options(product_rate PRIVATE -march=native -mprefer-vector-width=512)
endif()
