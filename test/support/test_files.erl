%% @doc Folders and files of a case.
-module(test_files).

-include_lib("common_test/include/ct.hrl").

-export([folder/2, write/3]).

%% @doc A folder of that name among the suite's private files.
-spec folder(ct_suite:ct_config(), Name :: string()) -> file:filename().
folder(Config, Name) ->
    Dir = filename:join(?config(priv_dir, Config), Name),
    ok = filelib:ensure_path(Dir),
    Dir.

%% @doc Compiled code counts seconds, and sizes: where it is written again, another size is another file.
-spec write(Dir :: file:filename(), Name :: string(), iodata()) -> ok.
write(Dir, Name, Text) ->
    ok = file:write_file(filename:join(Dir, Name), Text).
