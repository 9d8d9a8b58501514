%% @doc Processes of the operating system, by their number.
-module(test_os_process).

-export([is_running/1, kill/1, signal/2, stop/1]).

%% @doc Whether it runs. One that has ended and was not waited for does not: what it leaves in
%% `/proc' is for whoever started it.
-spec is_running(pos_integer() | string() | binary()) -> boolean().
is_running(Pid) when is_integer(Pid) ->
    is_running(integer_to_list(Pid));
is_running(Pid) ->
    case file:read_file(["/proc/", Pid, "/stat"]) of
        {ok, Stat} ->
            [_, <<State, _/binary>>] = string:split(Stat, <<") ">>, trailing),
            State =/= $Z;
        {error, _} ->
            %% Outside Linux there is no such folder.
            not filelib:is_dir("/proc/self") andalso os:cmd(lists:concat(["kill -0 ", unicode:characters_to_list(Pid), " 2>&1"])) =:= []
    end.

%% @doc Kills it, if it runs.
-spec kill(pos_integer() | string()) -> ok.
kill(Pid) when is_integer(Pid) ->
    kill(integer_to_list(Pid));
kill(Pid) ->
    _ = os:cmd("kill -9 " ++ Pid),
    ok.

%% @doc Sends it a signal, by its name without `SIG'. It is there.
-spec signal(pos_integer(), Name :: string()) -> ok.
signal(Pid, Name) ->
    "" = os:cmd("kill -" ++ Name ++ " " ++ integer_to_list(Pid)),
    ok.

%% @doc Stops it as a debugger does. Returns when each of its threads has stopped: on a busy machine one that
%% was about to run goes on for a while after the signal was sent.
-spec stop(pos_integer() | string()) -> ok.
stop(Pid) when is_integer(Pid) ->
    stop(integer_to_list(Pid));
stop(Pid) ->
    ok = signal(list_to_integer(Pid), "STOP"),
    %% Outside Linux there is no such folder.
    test_eventually:true(fun() -> lists:all(fun is_stopped/1, filelib:wildcard("/proc/" ++ Pid ++ "/task/*/stat")) end).

is_stopped(File) ->
    case file:read_file(File) of
        {ok, Stat} ->
            [_, <<State, _/binary>>] = string:split(Stat, <<") ">>, trailing),
            State =:= $T;
        {error, _} ->
            true
    end.
