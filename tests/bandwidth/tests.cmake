# A tool and no test: times on a machine that does other work prove nothing. By hand, on a quiet one:
#     python3 tests/bandwidth/compare.py BUILD/coffer BUILD/tests/stream_sum THREADS
find_package(Threads REQUIRED)
add_executable(stream_sum ${CMAKE_CURRENT_LIST_DIR}/stream_sum.c)
target_include_directories(stream_sum PRIVATE ${PROJECT_SOURCE_DIR})
target_link_libraries(stream_sum PRIVATE Threads::Threads)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  target_compile_options(stream_sum PRIVATE -march=native -mprefer-vector-width=512)
endif()
