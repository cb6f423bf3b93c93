/* A folder that has no source yet. */
typedef int cf__empty;
